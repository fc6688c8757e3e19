/**
 * `farbus serve` in its own process, as a user starts it, on an address that stays the same across
 * restarts.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

export class ServeProcess {
  readonly #args: readonly string[];
  readonly #socket: string;
  #child: ChildProcess | undefined;

  /**
   * @param socket path of the unix socket to listen on
   * @param args exports and options
   */
  constructor(socket: string, args: readonly string[]) {
    this.#socket = socket;
    this.#args = args;
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  /** The NBD URI of an export. */
  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${this.#socket}`;
  }

  /** Starts the server. Resolves when it accepts connections. */
  async start(): Promise<void> {
    const listen = ['--listen', `nbd+unix:///?socket=${this.#socket}`];
    this.#child = spawn(process.execPath, ['bin/farbus.js', 'serve', ...this.#args, ...listen, '--json'], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      stdio: ['ignore', 'pipe', 'inherit'],
      // Files that a killed server leaves are removed with the test's folder.
      env: { ...process.env, TMPDIR: dirname(this.#socket) },
    });
    const ended = once(this.#child, 'exit').then(() => Promise.reject(new Error('farbus serve ended')));
    await Promise.race([once(createInterface({ input: this.#child.stdout! }), 'line'), ended]);
    ended.catch(() => undefined);
  }

  /** Sends a signal: SIGSTOP and SIGCONT to pause and resume it, SIGKILL to kill it. */
  signal(signal: NodeJS.Signals): void {
    this.#child!.kill(signal);
  }

  /** Ends the server, by SIGKILL after 10 s if necessary, and waits until it has ended. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await exited;
    clearTimeout(timer);
  }
}
