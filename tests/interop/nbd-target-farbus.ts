/** Runs `farbus serve` in its own process, and its clients, for the tests of the NBD target. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const running = new Set<ChildProcess>();
afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. Rejects only if it cannot be started. */
export function run(program: string, ...args: readonly string[]): Promise<Finished> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { maxBuffer: 64 << 20, timeout: 50_000, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        if (error && typeof error.code === 'string') return reject(error);
        resolve({ code: error ? ((error.code as number | undefined) ?? null) : 0, stdout, stderr });
      },
    );
  });
}

/** Runs a program that must succeed. Resolves with its output. */
export async function succeed(program: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(program, ...args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: status ${code}: ${stderr || stdout}`);
  return stdout;
}

/** Runs `farbus serve` to its end. */
export function farbusOnce(...args: readonly string[]): Promise<Finished> {
  return run(process.execPath, `${root}bin/farbus.js`, 'serve', ...args);
}

export interface Serving {
  readonly child: ChildProcess;
  /** The lines on stdout so far. */
  readonly lines: readonly string[];
  /** The output on stderr so far. */
  readonly errors: () => string;
  /** Resolves when it ends. */
  readonly ended: Promise<{ code: number | null; signal: string | null }>;
}

/** Starts `farbus serve`. Resolves when it has printed `lines` lines. */
export async function farbusServe(args: readonly string[], lines = 1): Promise<Serving> {
  const child = spawn(process.execPath, [`${root}bin/farbus.js`, 'serve', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal });
    }),
  );
  const seen: string[] = [];
  const ready = new Promise<void>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      seen.push(line);
      if (seen.length === lines) resolve();
    });
  });
  await Promise.race([ready, ended.then(() => Promise.reject(new Error(`farbus serve ended: ${errors}`)))]);
  return { child, lines: seen, errors: () => errors, ended };
}

/** Stops a server by SIGTERM. Resolves with its exit status. */
export async function stop(serving: Serving): Promise<number | null> {
  serving.child.kill('SIGTERM');
  return (await serving.ended).code;
}
