/** The demo's server computer: `farbus serve` as a process of its own, started as a user would. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { FarbusError } from '../base/errors.js';

export interface ServerProcess {
  readonly pid: number;
  /** "nbd://127.0.0.1:PORT" */
  readonly address: string;
  /** Ends it with SIGTERM and waits; after 10 s by force. */
  stop(): Promise<void>;
}

const startLimit = 15_000;
const stopLimit = 10_000;

/** Starts a server for `paths` on a free loopback port; resolves when it accepts. */
export async function startServer(paths: readonly string[]): Promise<ServerProcess> {
  const command = fileURLToPath(new URL('../../bin/farbus.js', import.meta.url));
  const child = spawn(
    process.execPath,
    [command, 'serve', ...paths, '--listen', 'nbd://127.0.0.1:0', '--json'],
    // A group of its own: Ctrl-C at the terminal is for us, who stop it when the client is done.
    { stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  );
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-1000)));
  const stop = async () => {
    const timer = setTimeout(() => child.kill('SIGKILL'), stopLimit);
    child.kill('SIGTERM');
    await exited;
    clearTimeout(timer);
  };
  try {
    const line = await firstLine(child.stdout, exited);
    const address = (JSON.parse(line) as { listening: string[] }).listening[0];
    if (!address) throw new Error('it said no address');
    return { pid: child.pid!, address: address.replace(/\/$/, ''), stop };
  } catch {
    await stop();
    throw new FarbusError(`the server did not start: ${errors.trim().split('\n').at(-1) ?? 'it said nothing'}`);
  }
}

async function firstLine(stream: NodeJS.ReadableStream, exited: Promise<void>): Promise<string> {
  const lines = createInterface({ input: stream });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      new Promise<string>((resolve) => lines.once('line', resolve)),
      exited.then(() => Promise.reject(new Error('it ended'))),
      new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error('it took too long')), startLimit))),
    ]);
  } finally {
    clearTimeout(timer);
    lines.removeAllListeners();
  }
}
