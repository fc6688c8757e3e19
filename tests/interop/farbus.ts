/**
 * Runs the `farbus` command as a user does, to its end or in the background, for the tests of the
 * commands.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

/** The command's file. */
export const farbusFile = fileURLToPath(new URL('../../bin/farbus.js', import.meta.url));

export interface Finished {
  /** Exit status; null if a signal ended the command. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. Rejects only if it cannot be started. */
export function execute(program: string, args: readonly string[], timeout = 55_000): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: 64 << 20, timeout, killSignal: 'SIGTERM' } as const;
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error && typeof error.code === 'string') return reject(error);
      resolve({ code: error ? ((error.code as number | undefined) ?? null) : 0, stdout, stderr });
    });
  });
}

/** Runs `farbus` to its end. */
export function farbus(...args: readonly string[]): Promise<Finished> {
  return execute(process.execPath, [farbusFile, ...args]);
}

export interface Started {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Waits until its stdout matches. Rejects if the command ends before that. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
}

const running = new Set<ChildProcess>();
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts `farbus` in the background. */
export function startFarbus(...args: readonly string[]): Started {
  return startProgram(process.execPath, farbusFile, ...args);
}

/** Starts a program in the background. */
export function startProgram(program: string, ...args: readonly string[]): Started {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal });
    }),
  );
  const printed = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(out);
        if (match) resolve(match);
      };
      child.stdout.on('data', look);
      look();
      void ended.then(() => reject(new Error(`${program} ${args.join(' ')} ended: ${out}${err}`)));
    });
  return { child, stdout: () => out, stderr: () => err, ended, printed };
}
