/**
 * Recording filter: records every change and flush that reaches the next device, with its begin and
 * end. From the record a test computes what a device that keeps exactly its promises could contain
 * after a crash at any moment.
 *
 * For tests of durability. It keeps all written data in memory, and must see every change, so it
 * passes on no synchronous transfers.
 */
import type { Buffers } from '../../base/buffers.js';
import type { BlockDevice, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import { Filter } from './filter.js';

/** A write, trim, zeroing or flush, as it was recorded. */
export interface RecordedRequest {
  /** The kind of the request. */
  readonly op: 'write' | 'trim' | 'writeZeroes' | 'flush';
  /** Bytes; 0 for a flush. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
  /** True if it was durable when answered. */
  readonly fua: boolean;
  /** The data of a write. */
  readonly data?: Uint8Array;
  /** Moments of its begin and end, counted from 1; `done` is undefined while it is in flight. */
  readonly began: number;
  /** True if it has succeeded. */
  done?: number;
  /** True if it has failed. */
  failed?: boolean;
}

/** The requests that have reached a device, in the order in which they began. */
export class WriteLog {
  /** All requests, in the order in which they began. */
  readonly requests: RecordedRequest[] = [];
  #now = 0;

  /** The latest moment: the number of begins and ends so far. */
  get now(): number {
    return this.#now;
  }

  /** Records a request that lasts as long as `work` runs. */
  async note(request: Omit<RecordedRequest, 'began'>, work: () => Promise<void>): Promise<void> {
    const noted: RecordedRequest = { ...request, began: ++this.#now };
    this.requests.push(noted);
    try {
      await work();
    } catch (error) {
      noted.failed = true;
      throw error;
    } finally {
      noted.done = ++this.#now;
    }
  }

  /**
   * Moments at which successful flushes and FUA requests ended. No change is sure to become durable
   * between them.
   */
  durabilityPoints(): number[] {
    return this.requests
      .filter(({ op, fua, done, failed }) => (op === 'flush' || fua) && done !== undefined && !failed)
      .map(({ done }) => done!)
      .sort((a, b) => a - b);
  }

  /** The changes that must be on the medium at `moment`, in the order in which they ended. */
  durableAt(moment: number): RecordedRequest[] {
    const over = this.requests.filter(({ done, failed }) => done !== undefined && done <= moment && !failed);
    const flushes = over.filter(({ op }) => op === 'flush');
    const lastFlush = Math.max(0, ...flushes.map(({ began }) => began));
    return over
      .filter(({ op, fua, done }) => op !== 'flush' && (fua || done! < lastFlush))
      .sort((a, b) => a.done! - b.done!);
  }

  /** The changes that may or may not be on the medium at `moment`. */
  uncertainAt(moment: number): RecordedRequest[] {
    const durable = new Set(this.durableAt(moment));
    return this.requests.filter((one) => one.op !== 'flush' && one.began <= moment && !durable.has(one));
  }
}

/**
 * Applies recorded changes to an image. A trim changes nothing: the content after it is undefined.
 */
export function replay(image: Uint8Array, requests: readonly RecordedRequest[]): void {
  for (const { op, offset, length, data } of requests) {
    if (op === 'write') image.set(data!, offset);
    else if (op === 'writeZeroes') image.fill(0, offset, offset + length);
  }
}

/** Records every change and flush that reaches the next device, for tests of durability. */
export class RecordingFilter extends Filter {
  readonly #log: WriteLog;

  constructor(next: BlockDevice, log: WriteLog) {
    super(next);
    this.#log = log;
  }

  protected override doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const data = new Uint8Array(from.length);
    from.copyTo(data, 0);
    return this.#log.note({ op: 'write', offset, length: from.length, fua: options.fua === true, data }, () =>
      this.next.write(offset, from, options),
    );
  }

  protected override doFlush(options: RequestOptions): Promise<void> {
    return this.#log.note({ op: 'flush', offset: 0, length: 0, fua: false }, () => this.next.flush(options));
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.#log.note({ op: 'trim', offset, length, fua: options.fua === true }, () =>
      this.next.trim(offset, length, options),
    );
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    return this.#log.note({ op: 'writeZeroes', offset, length, fua: options.fua === true }, () =>
      this.next.writeZeroes(offset, length, options),
    );
  }
}
