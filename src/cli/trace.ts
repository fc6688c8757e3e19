/** `--trace`: the steps of each command as lines of text, with the time since the command's first step. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { FarbusError, messageOf } from '../base/errors.js';
import type { Step, StepSink, StepTag } from '../base/steps.js';
import type { CliIo } from './io.js';

/** Commands whose first time is kept; a command that is older is printed without one. */
const keptCommands = 4096;

export class TracePrinter implements StepSink {
  readonly #write: (line: string) => void;
  readonly #first = new Map<StepTag, number>();
  readonly #start = performance.now();
  readonly #file: WriteStream | undefined;

  /** @param path A file for the trace; '' for stderr. */
  static async open(path: string, io: CliIo): Promise<TracePrinter> {
    if (path === '') return new TracePrinter((line) => io.stderr.write(line));
    const file = createWriteStream(path);
    await new Promise<void>((resolve, reject) => {
      file.once('open', () => resolve());
      file.once('error', (error) => reject(new FarbusError(`--trace ${path}: ${messageOf(error)}`)));
    });
    // A full disk must not end the guest: the trace ends.
    file.on('error', () => undefined);
    return new TracePrinter((line) => file.write(line), file);
  }

  private constructor(write: (line: string) => void, file?: WriteStream) {
    this.#write = write;
    this.#file = file;
  }

  step({ tag, id, time, detail }: Step): void {
    let first = this.#first.get(tag);
    if (first === undefined) {
      first = tag === 0 ? this.#start : time;
      if (this.#first.size >= keptCommands) this.#first.delete(this.#first.keys().next().value!);
      this.#first.set(tag, first);
    }
    const who = tag === 0 ? 'boot' : `#${tag}`;
    this.#write(`${who.padEnd(8)} ${id.padStart(4)} ${(time - first).toFixed(3).padStart(10)} ms  ${detail}\n`);
  }

  async close(): Promise<void> {
    if (this.#file) await new Promise<void>((resolve) => this.#file!.end(() => resolve()));
  }
}
