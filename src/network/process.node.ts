/**
 * A child process as a byte stream: what is written goes to its standard input, what arrives is its standard output. What
 * it says on its standard error is kept, for the message of why it ended.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import type { ByteStream, StreamEvents } from './stream.js';

/** How a process ended. */
export interface ProcessEnd {
  /** Exit status; null where a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  /** The end of what it said on its standard error. */
  readonly stderr: string;
}

export interface ProcessOptions {
  /** For messages. */
  readonly peer: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Why it ended, for a person; undefined where that was in good order. */
  readonly explain: (end: ProcessEnd) => Error | undefined;
}

/** Bytes that may wait for the process before `write` asks the writer to hold back. */
const highWater = 4 << 20;
/** How much of its standard error is kept, in characters. */
const maxStderr = 8192;
/** How long a process may take to end by itself after its input has ended, and after SIGTERM, in ms. */
const lingerMs = 5000;
const killMs = 2000;

/** How long what a process has said before it ended may take to arrive, in ms. */
const lastWordsMs = 200;

const running = new Set<ProcessStream>();
process.once('exit', () => {
  for (const stream of running) stream.kill();
});

/**
 * Starts a program. It gets a session of its own, so that an interrupt from the terminal reaches us and not it: what is
 * under way can then be finished.
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
      // A program that could not be started has no 'close'.
      if (child.pid === undefined) this.#onClose(null, null);
    });
    // Once it has exited, whoever still holds its pipes must not keep us waiting: the master of an ssh that persists does.
    child.once('exit', () => {
      child.stdout.resume();
      setTimeout(() => child.stdout.destroy(), this.#destroyed ? 0 : lingerMs).unref();
      setTimeout(() => child.stderr.destroy(), lastWordsMs).unref();
    });
    child.once('close', (code, signal) => this.#onClose(code, signal));
  }

  /** Its process id; undefined where it could not be started. */
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
    // ssh ends its helpers (ProxyJump, ProxyCommand) when it is asked to end.
    this.#signal('SIGTERM');
    this.#force = setTimeout(() => this.kill(), killMs).unref();
  }

  /** Ends it at once, with what it has started. */
  kill(): void {
    this.#destroyed = true;
    this.#signal('SIGKILL');
  }

  /** To its process group, which is its own. */
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
