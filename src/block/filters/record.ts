/**
 * Recording filter: notes every change and every flush that reaches the next device, when it began and when it was over,
 * so that it can be told what a device that keeps its promises, and no more than those, would hold after a crash at any
 * moment. For tests of durability; it keeps all data that is written.
 */
import type { Buffers } from '../../base/buffers.js';
import type { BlockDevice, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import { Filter } from './filter.js';

export interface RecordedRequest {
  readonly op: 'write' | 'trim' | 'writeZeroes' | 'flush';
  /** Bytes; 0 for a flush. */
  readonly offset: number;
  readonly length: number;
  readonly fua: boolean;
  /** What was written. */
  readonly data?: Uint8Array;
  /** Moments, counted from 1; `done` is undefined while it is under way. */
  readonly began: number;
  done?: number;
  failed?: boolean;
}

/** What has reached a device, in the order in which it began. */
export class WriteLog {
  readonly requests: RecordedRequest[] = [];
  #now = 0;

  /** The last moment at which something began or was over. */
  get now(): number {
    return this.#now;
  }

  /** Notes a request for as long as `work` runs. */
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

  /** Moments at which flushes and FUA requests were over: between them nothing becomes durable. */
  durabilityPoints(): number[] {
    return this.requests
      .filter(({ op, fua, done, failed }) => (op === 'flush' || fua) && done !== undefined && !failed)
      .map(({ done }) => done!)
      .sort((a, b) => a - b);
  }

  /** The changes that are sure to be on the medium at a moment, in the order in which they were over. */
  durableAt(moment: number): RecordedRequest[] {
    const over = this.requests.filter(({ done, failed }) => done !== undefined && done <= moment && !failed);
    const flushes = over.filter(({ op }) => op === 'flush');
    const lastFlush = Math.max(0, ...flushes.map(({ began }) => began));
    return over
      .filter(({ op, fua, done }) => op !== 'flush' && (fua || done! < lastFlush))
      .sort((a, b) => a.done! - b.done!);
  }

  /** The changes that may be on the medium at that moment or not. */
  uncertainAt(moment: number): RecordedRequest[] {
    const durable = new Set(this.durableAt(moment));
    return this.requests.filter((one) => one.op !== 'flush' && one.began <= moment && !durable.has(one));
  }
}

/** Carries out recorded changes on an image. A trim leaves what was there: the medium may do as it likes. */
export function replay(image: Uint8Array, requests: readonly RecordedRequest[]): void {
  for (const { op, offset, length, data } of requests) {
    if (op === 'write') image.set(data!, offset);
    else if (op === 'writeZeroes') image.fill(0, offset, offset + length);
  }
}

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
