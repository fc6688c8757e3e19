/**
 * stdout and stderr of this process. All output goes through this file.
 *
 * A file may be full, the reader of a pipe gone, a terminal closed or stopped. stderr carries logs
 * and progress, so none of this may end or delay the program: text that cannot be written is lost
 * and counted. stdout carries results: its first failure is kept, and determines the exit status
 * at the end (io.ts).
 */
import { EventEmitter } from 'node:events';
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { errnoOf } from '../../base/errors.js';

/** Maximum bytes of logs that wait for a slow reader; further text is lost. */
const maxPending = 1 << 20;
/** Interval of attempts to write to a terminal that accepts nothing, in ms. */
const retryMs = 50;
/** Time that the last lines wait for a terminal or reader that accepts nothing, in ms. */
const lastMs = 1000;

/** Output for logs and progress. `write` neither throws nor waits. */
export interface LogOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  /** Number of texts lost since the last call because they could not be written. */
  takeLost?(): number;
}

/** Output for results. A failed write passes the error to `done` and emits it; it never throws. */
export interface ResultOutput {
  /** Returns false if the caller should wait for `drain` before writing more. */
  write(data: string | Uint8Array, done?: (error?: Error | null) => void): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'drain', listener: () => void): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** Results to a file. Node's own stream regards a short write, as on a full disk, as complete. */
class FileOutput extends EventEmitter implements ResultOutput {
  readonly #fd: number;

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  write(data: string | Uint8Array, done?: (error?: Error | null) => void): boolean {
    const bytes = Buffer.from(data);
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at);
      done?.();
    } catch (error) {
      done?.(error as Error);
      this.emit('error', error);
    }
    return true;
  }
}

/** Logs through Node's stream, which does not wait for the reader of a pipe. */
class StreamLog implements LogOutput {
  readonly #stream: NodeJS.WriteStream;
  #lost = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  get isTTY(): boolean {
    return this.#stream.isTTY;
  }

  get columns(): number {
    return this.#stream.columns;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  write(text: string): void {
    if (this.#stream.writableLength > maxPending) this.#lost++;
    else this.#stream.write(text, (error) => void (error && this.#lost++));
  }

  flush(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, lastMs);
      this.#stream.write('', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/**
 * Logs to a file or terminal by descriptor. A stopped terminal accepts nothing; then the text
 * waits.
 */
class DescriptorLog implements LogOutput {
  readonly isTTY: boolean;
  readonly #fd: number;
  #waiting: Uint8Array[] = [];
  #pending = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lost = 0;

  constructor(fd: number, isTTY: boolean) {
    this.#fd = fd;
    this.isTTY = isTTY;
  }

  get columns(): number {
    return process.stderr.columns;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  write(text: string): void {
    if (this.#pending > maxPending) {
      this.#lost++;
      return;
    }
    const bytes = Buffer.from(text);
    this.#waiting.push(bytes);
    this.#pending += bytes.length;
    if (!this.#timer) this.#send();
  }

  async flush(): Promise<void> {
    for (const end = performance.now() + lastMs; this.#waiting.length > 0 && performance.now() < end;) {
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
    clearTimeout(this.#timer);
  }

  #send(): void {
    this.#timer = undefined;
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      try {
        const done = writeSync(this.#fd, first);
        this.#pending -= done;
        if (done < first.length) this.#waiting[0] = first.subarray(done);
        else this.#waiting.shift();
      } catch (error) {
        if (errnoOf(error) === 'EAGAIN') {
          this.#timer = setTimeout(() => this.#send(), retryMs);
          this.#timer.unref();
          return;
        }
        // The disk is full or the terminal closed: this text is lost; try the next one.
        this.#lost++;
        this.#pending -= first.length;
        this.#waiting.shift();
      }
    }
  }
}

/**
 * A descriptor of stderr for writes that do not wait; undefined if Node's stream must be used. A
 * terminal is opened a second time, because O_NONBLOCK on the shared descriptor would affect all
 * processes that use it.
 */
function logDescriptor(): number | undefined {
  try {
    if (!isatty(2)) {
      const stat = fstatSync(2);
      return stat.isFile() || stat.isCharacterDevice() ? 2 : undefined;
    }
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
    const fd = openSync('/proc/self/fd/2', O_WRONLY | O_NONBLOCK | O_NOCTTY);
    if (isatty(fd)) return fd;
    closeSync(fd);
  } catch {
    // There is no /proc, or the terminal belongs to another user.
  }
  return undefined;
}

/** The outputs of this process; a single instance. */
export class ProcessOutput {
  readonly stdout: ResultOutput;
  readonly stderr: StreamLog | DescriptorLog;
  /** Resolves with the first error of stdout. */
  readonly failed: Promise<Error>;
  /** The first error of stdout. */
  failure: Error | undefined;
  static #one: ProcessOutput | undefined;

  static get(): ProcessOutput {
    return (this.#one ??= new ProcessOutput());
  }

  private constructor() {
    // Node prints warnings to these streams. Without a listener, an error of a stream would end the
    // process.
    process.stderr.on('error', () => undefined);
    process.stdout.on('error', () => undefined);
    process.once('exit', leaveClosedTerminals);
    const fd = logDescriptor();
    this.stderr = fd === undefined ? new StreamLog(process.stderr) : new DescriptorLog(fd, isatty(fd));
    this.stdout = isFileOutput() ? new FileOutput(1) : process.stdout;
    this.failed = new Promise((resolve) => {
      this.stdout.on('error', (error: Error) => {
        this.failure ??= error;
        resolve(error);
      });
    });
  }

  /** Resolves when all output is written, is lost, or waits for a reader that accepts nothing. */
  async flush(): Promise<void> {
    await new Promise<void>((resolve) => this.stdout.write('', () => resolve()));
    await this.stderr.flush();
  }
}

/**
 * Replaces closed terminals by /dev/null. At exit Node resets terminals, and aborts if that fails
 * (EIO; src/node.cc, ResetStdio).
 */
function leaveClosedTerminals(): void {
  for (const fd of [0, 1, 2]) {
    try {
      if (isatty(fd) || !fstatSync(fd).isCharacterDevice()) continue;
      closeSync(fd);
      // open(2) returns the lowest free descriptor, which is `fd`.
      openSync('/dev/null', 'r+');
    } catch {
      // The descriptor is not open.
    }
  }
}

function isFileOutput(): boolean {
  try {
    const stat = fstatSync(1);
    return stat.isFile() || (stat.isCharacterDevice() && !isatty(1));
  } catch {
    // stdout is closed: Node has opened another file in its place, or every write fails.
    return false;
  }
}
