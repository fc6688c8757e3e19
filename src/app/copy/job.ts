/**
 * A copy between two open disks: sparse, with a journal by which it can be resumed, and verified if
 * requested.
 */
import { failed, FarbusError, messageOf } from '../../base/errors.js';
import { formatBytes } from '../../base/format.js';
import type { Logger } from '../../base/log.js';
import { compareDevices } from '../../block/compare.js';
import { copyDevice, CopyFailure, type CopyResult } from '../../block/copy.js';
import type { BlockDevice } from '../../block/device.js';
import { sharesBytes, type DiskIdentity } from '../../block/identity.js';
import { localPath, type Source } from '../source-text.js';
import {
  journalPath,
  readJournal,
  removeJournal,
  sourceEnd,
  staleness,
  targetEnd,
  writeJournal,
  type CopyEnd,
} from './journal.js';
import { sameError } from './target.js';

export interface CopyJobOptions {
  /** The texts of source and target, for messages and the journal. */
  readonly from: string;
  readonly to: string;
  /** The paths of {@link filesOf}. Default: the texts. */
  readonly fromFile?: string | undefined;
  readonly toFile?: string | undefined;
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  /** The target is new and reads as zeroes. */
  readonly fresh: boolean;
  /** Requests in flight at once. */
  readonly jobs: number;
  /** The user asserts that these are the disks of the copy that is resumed. */
  readonly assumeSame: boolean;
  readonly verify: boolean;
  readonly resume: boolean;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** The files of this computer that the texts of source and target name. */
export function filesOf(from: Source, to: Source): Pick<CopyJobOptions, 'fromFile' | 'toFile'> {
  // A journal beside a file is about the whole file.
  return { fromFile: localPath(from), toFile: to.words.length === 0 ? localPath(to) : undefined };
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
    const { to, source, target, fresh, jobs, verify, log, signal, env } = this.#options;
    this.#checkApart();
    const { size } = source.info;
    if (target.info.size > size) log.log('info', `${to} is larger: its last ${target.info.size - size} bytes stay`);
    if (!target.info.can.flush) log.log('warn', `${to}: the other side cannot promise that flushed data is durable`);
    const path = await journalPath(to, this.#options.toFile ?? to, env);
    const start = await this.#begin(path).catch((error: unknown) => {
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

  /** @throws FarbusError if source and target share bytes */
  #checkApart(): void {
    const { from, to, source, target } = this.#options;
    // Compare without the format suffix: an image and the file that holds it are also the same.
    const [one, other] = [source, target].map(({ info }) => info.identity.replace(/#[a-z0-9]+$/, ''));
    const identity = ({ info: { size, marks = {} } }: BlockDevice): DiskIdentity => ({ size, marks });
    if ((one !== '' && one === other) || sharesBytes(identity(source), identity(target))) {
      throw sameError(from, to);
    }
  }

  /**
   * Returns the first byte to copy. Writes the journal of a new copy at once, so that it can always
   * be resumed.
   */
  async #begin(path: string): Promise<number> {
    const { to, source, target, resume, log, signal } = this.#options;
    const journal = await readJournal(path);
    if (!resume) {
      if (journal && journal.position > 0) {
        log.log(
          'info',
          `an unfinished copy to ${to} starts again from its beginning: --resume would have continued it`,
        );
      }
      await this.#note(path, 0);
      signal.throwIfAborted();
      return 0;
    }
    if (!journal) {
      throw new FarbusError(
        `there is nothing to resume: ${path} is not there; leave --resume out to copy from the start`,
      );
    }
    const { assumeSame } = this.#options;
    const ends = { source, target, from: await this.#from(), to: targetEnd(target), assumeSame, signal };
    const why = await staleness(journal, ends);
    if (why !== undefined) {
      throw new FarbusError(`cannot resume the copy to ${to}: ${why}; leave --resume out to copy from the start`);
    }
    log.log('info', `going on at ${formatBytes(journal.position)} (${journal.position} bytes)`);
    return journal.position;
  }

  /** Identity of the source at the start of this run. */
  #from(): Promise<CopyEnd> {
    const { from, fromFile = from, source, signal } = this.#options;
    return (this.#found ??= sourceEnd(fromFile, source, { signal }));
  }

  async #note(path: string, position: number): Promise<void> {
    const { target, log, signal } = this.#options;
    try {
      await writeJournal(path, { version: 2, from: await this.#from(), to: targetEnd(target), position });
    } catch (error) {
      // Continue without a journal: a copy that cannot be resumed is better than none.
      if (position === 0 && !signal.aborted)
        log.log('warn', `cannot keep a journal in ${path} (${messageOf(error)}): --resume will not work`);
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
    const { from, to, source, signal } = this.#options;
    const where = `${formatBytes(this.#position)} of ${formatBytes(source.info.size)} are copied and durable`;
    if (signal.aborted) return new FarbusError(`stopped: ${where}; the same command with --resume continues`);
    if (!(error instanceof CopyFailure)) return failed('the copy failed', error);
    const what =
      error.side === undefined
        ? 'the copy failed'
        : `cannot ${error.side === 'from' ? `read ${from}` : `write ${to}`} at byte ${error.at!}`;
    const message = `${what}: ${messageOf(error.cause)}; ${where}, --resume continues from there`;
    return new FarbusError(message, { cause: error });
  }
}
