/**
 * Real NBD servers for tests: nbdkit, qemu-nbd and our own command, each as a child process on a
 * free loopback port or on a unix socket in a temporary folder. All are killed at the end of the
 * test file that started them.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';
import { tempPath } from './temp.js';
import { accepts } from './accepts.js';

/** The address on which a server listens. */
export type Place = { readonly port: number } | { readonly path: string };

/** Time limit for a server to start listening, in ms: far more than it needs. */
const startMs = 30_000;
/** Export name of qemu-nbd, which requires one. */
const qemuExport = 'disk';

const running = new Set<NbdPeer>();
afterAll(async () => {
  for (const peer of [...running]) await peer.kill();
});
process.once('exit', () => {
  for (const peer of running) peer.killNow();
});

/** One server, which can be killed and restarted at the same address. */
export class NbdPeer {
  /** NBD URI of the export for clients. */
  readonly uri: string;
  readonly place: Place;
  readonly #command: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;
  #output = '';

  constructor(command: string, args: readonly string[], place: Place, exportName: string) {
    this.#command = command;
    this.#args = args;
    this.place = place;
    const name = encodeURIComponent(exportName);
    this.uri = 'path' in place ? `nbd+unix:///${name}?socket=${place.path}` : `nbd://127.0.0.1:${place.port}/${name}`;
  }

  /** The process id, for signals; undefined while the server does not run. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** The output since the latest start. */
  get output(): string {
    return this.#output;
  }

  /** Starts the server and waits until it accepts connections. */
  async start(): Promise<this> {
    if ('path' in this.place) rmSync(this.place.path, { force: true });
    this.#output = '';
    const child = spawn(this.#command, this.#args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    running.add(this);
    const take = (bytes: Buffer): void => {
      this.#output = (this.#output + bytes.toString()).slice(-65536);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    let failed: Error | undefined;
    child.once('error', (error) => (failed = error));
    for (const end = Date.now() + startMs; ; await sleep(10)) {
      if (failed) throw failed;
      if (child.exitCode !== null) throw new Error(`${this.#command} ended at once: ${this.#output}`);
      if (await ready(this.place)) return this;
      if (Date.now() > end) throw new Error(`${this.#command} does not listen: ${this.#output}`);
    }
  }

  /** Ends the process by `signal` and waits until it is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    running.delete(this);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  /** Sends a signal and returns immediately: for SIGSTOP and SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  killNow(): void {
    this.#child?.kill('SIGKILL');
  }
}

/**
 * Starts nbdkit. `args`: options and filters, then the plugin and its parameters: `nbdkit(place,
 * ['memory', '1M'])`.
 */
export function nbdkit(place: Place, args: readonly string[]): Promise<NbdPeer> {
  const where = 'path' in place ? ['--unix', place.path] : ['--ipaddr', '127.0.0.1', '--port', String(place.port)];
  return new NbdPeer('nbdkit', ['--foreground', '--exit-with-parent', ...where, ...args], place, '').start();
}

/** Starts qemu-nbd on a raw image. */
export function qemuNbd(place: Place, image: string, args: readonly string[] = []): Promise<NbdPeer> {
  const where = 'path' in place ? ['--socket', place.path] : ['--bind', '127.0.0.1', '--port', String(place.port)];
  const fixed = ['--persistent', '--shared', '8', '--format', 'raw', '--export-name', qemuExport];
  return new NbdPeer('qemu-nbd', [...fixed, ...where, ...args, image], place, qemuExport).start();
}

/** Starts `farbus serve` on files. `uri` refers to the export named `exportName`. */
export function farbusServe(place: Place, exportName: string, args: readonly string[]): Promise<NbdPeer> {
  const where = 'path' in place ? `nbd+unix:///?socket=${place.path}` : `nbd://127.0.0.1:${place.port}`;
  const all = ['bin/farbus.js', 'serve', '--listen', where, ...args];
  return new NbdPeer(process.execPath, all, place, exportName).start();
}

/** Starts `farbus attach` on a source, at a unix socket. */
export function farbusAttach(place: { readonly path: string }, source: string): Promise<NbdPeer> {
  const all = ['bin/farbus.js', 'attach', source, '--socket', place.path];
  return new NbdPeer(process.execPath, all, place, '').start();
}

/** Finds a free port on 127.0.0.1. */
export async function freePort(): Promise<{ port: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return { port };
}

/** A path for a unix socket in a new temporary folder. */
export function freeSocket(): { path: string } {
  return { path: tempPath('nbd.sock') };
}

/**
 * True if a program that tests run against is missing; it then prints a warning, and in CI it
 * throws. Use as `describe.skipIf(missing('nbdkit'))`.
 */
export function missing(program: string): boolean {
  if (spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined) return false;
  const line = `${program} is not installed: run scripts/test-peers.sh`;
  if (process.env['CI']) throw new Error(line);
  console.warn(`SKIPPED: ${line}`);
  return true;
}

function ready(place: Place): Promise<boolean> {
  if (!('path' in place)) return accepts({ host: '127.0.0.1', ...place });
  return existsSync(place.path) ? accepts(place) : Promise.resolve(false);
}
