/**
 * A child process as a byte stream: writes go to its standard input, its standard output is what
 * arrives. The end of its standard error is kept to explain why it ended.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import type { ByteStream, StreamEvents } from './stream.js';

/** How a process ended. */
export interface ProcessEnd {
  /** Exit status; null if a signal ended it. */
  readonly code: number | null;
  /** Name of the signal that ended it, else null. */
  readonly signal: string | null;
  /** The end of its standard error. */
  readonly stderr: string;
}

export interface ProcessOptions {
  /** Name of the peer, for messages. */
  readonly peer: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Explains its end to a person; undefined if it ended in good order. */
  readonly explain: (end: ProcessEnd) => Error | undefined;
}

/** High-water mark: with more bytes waiting for the process, `write` returns false. */
const highWater = 4 << 20;
/** Length of the standard error that is kept, in characters. */
const maxStderr = 8192;
/** Time for the process to end after the end of its input, before SIGTERM, in ms. */
const lingerMs = 5000;
/** Time for the process to end after SIGTERM, before SIGKILL, in ms. */
const killMs = 2000;

/** Time for the rest of the standard error to arrive after the process has exited, in ms. */
const lastWordsMs = 200;

const running = new Set<ProcessStream>();
process.once('exit', () => {
  for (const stream of running) stream.kill();
});

/**
 * Starts a program in a session of its own. An interrupt from the terminal then reaches this
 * process only, so that requests in flight can be finished.
 */
export class ProcessStream implements ByteStream {
  readonly peer: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #options: ProcessOptions;
  #events: StreamEvents | undefined;
  #stderr = '';
  #blocked = false;
  #destroyed = false;
  #closed = false;
  #error: Error | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;
  #force: ReturnType<typeof setTimeout> | undefined;

  constructor(program: string, args: readonly string[], options: ProcessOptions) {
    this.peer = options.peer;
    this.#options = options;
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: options.env ?? process.env,
      detached: true,
      windowsHide: true,
    });
    this.#child = child;
    running.add(this);
    child.stderr.setEncoding('utf8');
    child.stderr.on('data', (text: string) => (this.#stderr = (this.#stderr + text).slice(-maxStderr)));
    child.stdin.on('drain', () => this.#drained());
    child.stdout.on('data', (chunk: Uint8Array) => this.#receive(chunk));
    child.stdout.pause();
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', () => undefined);
    child.once('error', (error) => {
      this.#error ??= notStarted(program, error);
      // Node emits no 'close' for a program that could not be started.
      if (child.pid === undefined) this.#onClose(null, null);
    });
    // Other processes may hold its pipes open after it has exited, as a persistent ssh master does.
    // Do not wait for them.
    child.once('exit', () => {
      child.stdout.resume();
      setTimeout(() => child.stdout.destroy(), this.#destroyed ? 0 : lingerMs).unref();
      setTimeout(() => child.stderr.destroy(), lastWordsMs).unref();
    });
    child.once('close', (code, signal) => this.#onClose(code, signal));
  }

  /** Its process id; undefined if it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  get pending(): number {
    return this.#child.stdin.writableLength;
  }

  attach(events: StreamEvents): void {
    this.#events = events;
    if (this.#closed) queueMicrotask(() => events.closed(this.#error));
    else this.#child.stdout.resume();
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const { stdin } = this.#child;
    if (!stdin.writable) return true;
    if (chunks.length > 1) stdin.cork();
    for (const chunk of chunks) stdin.write(chunk);
    if (chunks.length > 1) stdin.uncork();
    this.#blocked = stdin.writableLength > highWater;
    return !this.#blocked;
  }

  pause(): void {
    this.#child.stdout.pause();
  }

  resume(): void {
    if (this.#events && !this.#closed) this.#child.stdout.resume();
  }

  end(): void {
    this.#child.stdin.end();
    this.#child.stdout.resume();
    this.#linger ??= setTimeout(() => this.destroy(), lingerMs);
  }

  destroy(): void {
    if (this.#destroyed || this.#closed) return;
    this.#destroyed = true;
    this.#child.stdin.destroy();
    // SIGTERM first: ssh then ends its helpers (ProxyJump, ProxyCommand).
    this.#signal('SIGTERM');
    this.#force = setTimeout(() => this.kill(), killMs).unref();
  }

  /** Kills it and the processes that it has started. */
  kill(): void {
    this.#destroyed = true;
    this.#signal('SIGKILL');
  }

  /** Sends a signal to its process group. */
  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    try {
      process.kill(-pid, signal);
    } catch {
      this.#child.kill(signal);
    }
  }

  #receive(chunk: Uint8Array): void {
    if (this.#destroyed) return;
    try {
      this.#events?.data(chunk);
    } catch (error) {
      this.#error ??= error instanceof Error ? error : new Error(messageOf(error));
      this.destroy();
    }
  }

  #drained(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#events?.drain();
  }

  #onClose(code: number | null, signal: string | null): void {
    if (this.#closed) return;
    this.#closed = true;
    running.delete(this);
    clearTimeout(this.#linger);
    clearTimeout(this.#force);
    if (!this.#destroyed) this.#error ??= this.#options.explain({ code, signal, stderr: this.#stderr });
    this.#events?.closed(this.#error);
  }
}

function notStarted(program: string, error: Error): Error {
  const why = errnoOf(error) === 'ENOENT' ? 'there is no such program: install it' : messageOf(error);
  return new FarbusError(`cannot run ${program}: ${why}`, { cause: error });
}
