/**
 * stdout and stderr of this process, which everything that is printed goes through.
 *
 * A file may be full, the reader of a pipe gone, a terminal closed or stopped. stderr carries logs and progress, so nothing
 * of that may end or delay the program: text that cannot be written is lost and counted. stdout carries results: its first
 * failure is kept, and decides the exit status at the end (io.ts).
 */
import { EventEmitter } from 'node:events';
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { errnoOf } from '../base/errors.js';

/** Bytes of logs that wait for a slow reader; later text is lost. */
const maxPending = 1 << 20;
/** How often a terminal that takes nothing is tried again, in ms. */
const retryMs = 50;
/** How long the last lines wait for a terminal or a reader that takes nothing, in ms. */
const lastMs = 1000;

/** Where logs and progress go. `write` neither throws nor waits. */
export interface LogOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  /** How many texts were lost since the last call, because they could not be written. */
  takeLost?(): number;
}

/** Where results go. A write that fails calls back with the error and emits it; it never throws. */
export interface ResultOutput {
  /** Returns whether more can be written before `drain`. */
  write(data: string | Uint8Array, done?: (error?: Error | null) => void): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'drain', listener: () => void): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** Results into a file: Node's own stream takes a short write, as on a disk that becomes full, for a whole one. */
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

/** Logs into a file or onto a terminal by a descriptor. A terminal that is stopped takes nothing: its text waits. */
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
        // A full disk, a closed terminal: this text is lost, and the next one is tried all the same.
        this.#lost++;
        this.#pending -= first.length;
        this.#waiting.shift();
      }
    }
  }
}

/**
 * The descriptor of stderr, for writes that do not wait. A terminal is opened once more: the flag O_NONBLOCK would else be
 * that of every process that has it. Undefined where Node's stream is to be used.
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
    // No /proc, or another user's terminal.
  }
  return undefined;
}

/** The outputs of this process; one for its whole life. */
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
    // Node itself prints warnings to these streams: without a listener, an error of theirs ends the process.
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

  /** Resolves when all that was printed is written, is lost, or waits for a reader that takes nothing. */
  async flush(): Promise<void> {
    await new Promise<void>((resolve) => this.stdout.write('', () => resolve()));
    await this.stderr.flush();
  }
}

/**
 * Puts /dev/null in the place of a terminal that has been closed. Node sets terminals back as it ends, and aborts where that
 * is an error (EIO; src/node.cc, ResetStdio).
 */
function leaveClosedTerminals(): void {
  for (const fd of [0, 1, 2]) {
    try {
      if (isatty(fd) || !fstatSync(fd).isCharacterDevice()) continue;
      closeSync(fd);
      // The lowest number that is free.
      openSync('/dev/null', 'r+');
    } catch {
      // It is not open.
    }
  }
}

function isFileOutput(): boolean {
  try {
    const stat = fstatSync(1);
    return stat.isFile() || (stat.isCharacterDevice() && !isatty(1));
  } catch {
    // stdout is closed: Node has opened something in its place, or every write fails.
    return false;
  }
}
