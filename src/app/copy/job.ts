/**
 * A copy between two open disks: sparse, with a journal by which it can be resumed, and verified if
 * requested.
 */
import { failed, FarbusError, messageOf } from '../../base/errors.js';
import { formatBytes } from '../../base/format.js';
import { compareDevices } from '../../block/compare.js';
import { copyDevice, CopyFailure, type CopyResult } from '../../block/copy.js';
import type { BlockDevice } from '../../block/device.js';
import { removeJournal, sourceEnd, targetEnd, writeJournal, type CopyEnd } from './journal.js';
import { findStart, type CopyStartOptions } from './start.js';

export interface CopyJobOptions extends CopyStartOptions {
  readonly target: BlockDevice;
  /** The target is new and reads as zeroes. */
  readonly fresh: boolean;
  /** Requests in flight at once. */
  readonly jobs: number;
  readonly verify: boolean;
}

/** The state of a copy, and its result at the end. */
export interface CopyState extends Partial<CopyResult> {
  readonly size: number;
  /** Start position of this run, in bytes. */
  readonly start: number;
  /** All bytes before this position are copied and durable. */
  readonly position: number;
  readonly verified: boolean;
  readonly seconds: number;
}

/** Receives the progress in bytes; `label` is `copied` or `verified`. */
export type ShowProgress = (label: string, done: number, total: number) => void;

export class CopyJob {
  readonly #options: CopyJobOptions;
  readonly #started = performance.now();
  #found: Promise<CopyEnd> | undefined;
  /** False if the journal could not be written, so that the copy cannot be resumed. */
  #canResume = true;
  #start: number | undefined;
  #position = 0;
  #result: Partial<CopyResult> & { readonly verified: boolean } = { verified: false };
  #seconds = 0;

  constructor(options: CopyJobOptions) {
    this.#options = options;
  }

  /** False until the start position is known. */
  get begun(): boolean {
    return this.#start !== undefined;
  }

  get state(): CopyState {
    const { size } = this.#options.source.info;
    const { verified, ...result } = this.#result;
    return { ...result, size, start: this.#start ?? 0, position: this.#position, verified, seconds: this.#seconds };
  }

  /** Copies, and verifies if requested. Rejects with a FarbusError. */
  async run(show: ShowProgress): Promise<void> {
    const { source, target, fresh, jobs, verify, signal } = this.#options;
    const { size } = source.info;
    const { path, start } = await this.#begin().catch((error: unknown) => {
      throw signal.aborted ? new FarbusError('stopped before the copy began') : error;
    });
    this.#start = this.#position = start;
    try {
      const result = await copyDevice(source, target, {
        jobs,
        start,
        fresh: fresh && start === 0,
        signal,
        onProgress: (at) => show('copied', at, size),
        checkpoint: (at) => this.#note(path, (this.#position = at)),
      });
      // The copy is complete. Resuming it would not repair a difference that --verify finds.
      await removeJournal(path);
      if (verify) await this.#verify(size, show);
      this.#result = { ...result, verified: verify };
      this.#position = size;
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.#seconds = Math.round(performance.now() - this.#started) / 1000;
    }
  }

  /**
   * Returns the path of the journal and the first byte to copy. Writes the journal of a new copy at
   * once, so that it can always be resumed.
   */
  async #begin(): Promise<{ path: string; start: number }> {
    const { resume, signal } = this.#options;
    const { journal: path, position: start, source } = await findStart(this.#options);
    if (source) this.#found = Promise.resolve(source);
    if (!resume) await this.#note(path, 0);
    signal.throwIfAborted();
    return { path, start };
  }

  /** Identity of the source at the start of this run. */
  #from(): Promise<CopyEnd> {
    const { from, fromFile = from, source, signal } = this.#options;
    return (this.#found ??= sourceEnd(fromFile, source, { signal }));
  }

  async #note(path: string, position: number): Promise<void> {
    const { target, names, log, signal } = this.#options;
    try {
      await writeJournal(path, { version: 2, from: await this.#from(), to: targetEnd(target), position });
    } catch (error) {
      // Continue without a journal: a copy that cannot be resumed is better than none.
      if (position > 0 || signal.aborted || !this.#canResume) return;
      this.#canResume = false;
      log.log('warn', `cannot keep a journal in ${path} (${messageOf(error)}): ${names.resume} will not work`);
    }
  }

  async #verify(size: number, show: ShowProgress): Promise<void> {
    const { from, to, source, target, jobs, signal } = this.#options;
    const onProgress = (bytes: number): void => show('verified', bytes, size);
    const at = await compareDevices(source, target, { jobs, signal, onProgress }).catch((error: unknown) => {
      throw failed(`cannot verify the copy of ${from}`, error);
    });
    if (at !== undefined) {
      throw new FarbusError(`${from} and ${to} differ at byte ${at}: the copy is not good; was one of them written?`);
    }
  }

  #explain(error: unknown): FarbusError {
    const { from, to, source, names, signal } = this.#options;
    const where = `${formatBytes(this.#position)} of ${formatBytes(source.info.size)} are copied and durable`;
    if (signal.aborted) {
      const next = this.#canResume ? `; the same copy with ${names.resume} continues` : '';
      return new FarbusError(`stopped: ${where}${next}`);
    }
    if (!(error instanceof CopyFailure)) return failed('the copy failed', error);
    const what =
      error.side === undefined
        ? 'the copy failed'
        : `cannot ${error.side === 'from' ? `read ${from}` : `write ${to}`} at byte ${error.at!}`;
    const next = this.#canResume ? `, ${names.resume} continues from there` : '';
    const message = `${what}: ${messageOf(error.cause)}; ${where}${next}`;
    return new FarbusError(message, { cause: error });
  }
}
