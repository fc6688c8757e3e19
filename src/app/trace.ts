/**
 * `--trace`: prints the steps of each command as lines of text, with the time since the command's
 * first step.
 */
import { FarbusError, messageOf } from '../base/errors.js';
import { openForWriting } from '../base/files.node.js';
import type { Logger } from '../base/log.js';
import type { Step, StepSink, TraceId } from '../base/steps.js';
import { RotatingFile } from '../site/rotating-file.node.js';
import { checkOutputFile } from './output-file.js';

/**
 * Number of commands whose start time is kept. A later step of an older command is timed from that
 * step.
 */
const keptCommands = 4096;
/** Format of the first line of a trace, as {@link TracePrinter.step} prints it. */
const traceLine = /^(boot|#\S+) +\S+ +-?\d+\.\d{3} ms {2}/;
/** Maximum bytes of a trace that wait for the disk; further steps are lost and counted. */
const maxPending = 16 << 20;

/** Output for a trace, such as a process's stderr. */
interface TraceOutput {
  write(text: string): unknown;
}

export class TracePrinter implements StepSink {
  readonly #write: (line: string) => void;
  readonly #first = new Map<TraceId, number>();
  readonly #start = performance.now();
  readonly #close: () => Promise<void>;

  /**
   * Opens a trace.
   * @param path File for the trace; '' for stderr.
   * @param stderr Takes the trace if `path` is ''.
   * @param log Gets a warning if the trace fails; the command continues.
   */
  static async open(path: string, stderr: TraceOutput, log: Logger): Promise<TracePrinter> {
    if (path === '') return new TracePrinter((line) => stderr.write(line));
    await checkOutputFile(path, 'a trace', (start) => traceLine.test(new TextDecoder().decode(start)));
    const handle = await openForWriting(path).catch((error: unknown) => {
      throw new FarbusError(`--trace ${path}: ${messageOf(error)}`, { cause: error });
    });
    const file = handle.createWriteStream();
    let ended = false;
    file.on('error', (error) => {
      if (!ended) log.log('warn', `the trace in ${path} ends here: ${messageOf(error)}`);
      ended = true;
    });
    let lost = 0;
    const write = (line: string): void => {
      if (ended) return;
      if (file.writableLength > maxPending) {
        lost++;
        return;
      }
      if (lost > 0) file.write(`(${lost} steps are missing here: the disk was too slow)\n`);
      lost = 0;
      file.write(line);
    };
    return new TracePrinter(write, () => new Promise((resolve) => file.end(() => resolve())));
  }

  /**
   * A trace in a file of at most `maxSize` bytes; one older part of that size is kept.
   * @throws FarbusError
   */
  static bounded(path: string, maxSize: number): TracePrinter {
    const file = new RotatingFile(path, maxSize);
    let lines: string[] = [];
    const flush = (): void => {
      file.append(Buffer.from(lines.join('')));
      lines = [];
    };
    // Write the lines of one iteration of the event loop together.
    const write = (line: string): void => {
      if (lines.push(line) === 1) setImmediate(() => lines.length > 0 && flush());
    };
    return new TracePrinter(write, async () => {
      if (lines.length > 0) flush();
      file.close();
    });
  }

  private constructor(write: (line: string) => void, close: () => Promise<void> = async () => undefined) {
    this.#write = write;
    this.#close = close;
  }

  step({ traceId, id, time, detail }: Step): void {
    let first = this.#first.get(traceId);
    if (first === undefined) {
      first = traceId === 0 ? this.#start : time;
      if (this.#first.size >= keptCommands) this.#first.delete(this.#first.keys().next().value!);
      this.#first.set(traceId, first);
    }
    const who = traceId === 0 ? 'boot' : `#${traceId}`;
    this.#write(`${who.padEnd(8)} ${id.padStart(4)} ${(time - first).toFixed(3).padStart(10)} ms  ${detail}\n`);
  }

  close(): Promise<void> {
    return this.#close();
  }
}
