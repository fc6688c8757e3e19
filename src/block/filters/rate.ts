/**
 * Rate filter: limits the bytes per second of reads and of writes, with one token bucket for each
 * direction.
 *
 * Several filters may share one limit. Those that wait get equal shares of it by start-time fair
 * queueing (Goyal, Vin, Cheng 1996), so that a filter with many or long requests does not slow one
 * with few. Requests that transfer no data (flush, trim, write zeroes, extents) pass immediately.
 * Synchronous transfers pass while there are tokens. File ranges are not passed on: their bytes are
 * sent after the request, in pieces that the bucket does not see.
 */
import type { Buffers } from '../../base/buffers.js';
import { usageError } from '../../base/errors.js';
import type { BlockDevice, BlockInfo, RequestOptions, WriteOptions } from '../device.js';
import { bytesFrom, defineFilter } from './definition.js';
import type { DirectAccess } from '../direct.js';
import { Filter } from './filter.js';
import { waitFor } from './wait.js';

/** An idle bucket holds the tokens of this time, in seconds. */
const burstSeconds = 0.1;
/**
 * Longest time that one piece of a request may take, in seconds: other filters wait that long for
 * it.
 */
const pieceSeconds = 1 / 16;
/** Smallest burst, in bytes. */
const leastBurst = 65_536;

/** A request that waits for tokens. */
interface Waiting {
  /** Virtual start time, in bytes; the waiting request with the lowest one passes next. */
  start: number;
  /** In bytes. */
  readonly length: number;
  readonly go: () => void;
}

/** The waiting requests of one filter, in order. */
interface Line {
  readonly queue: Waiting[];
  /** Virtual time at which its last request ends, in bytes. */
  finish: number;
}

/** The token bucket of one direction, and the requests that wait for it. One token is one byte. */
class Bucket {
  readonly #rate: number;
  readonly #burst: number;
  readonly #lines = new Set<Line>();
  #tokens: number;
  #filled = performance.now();
  #virtual = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(rate: number) {
    this.#rate = rate;
    this.#burst = Math.max(leastBurst, rate * burstSeconds);
    this.#tokens = this.#burst;
  }

  /**
   * Takes `length` tokens. Returns undefined if the request may pass now, else a promise to wait
   * for.
   */
  take(line: Line, length: number, signal: AbortSignal | undefined): Promise<void> | undefined {
    if (this.idle) {
      this.charge(line, length);
      return undefined;
    }
    const start = Math.max(this.#virtual, line.finish);
    line.finish = start + length;
    return waitFor(signal, (go) => {
      const waiting: Waiting = { start, length, go };
      line.queue.push(waiting);
      this.#lines.add(line);
      this.#arm();
      return () => cancel(line, waiting);
    });
  }

  /** True if a request that does not wait may pass now. */
  get idle(): boolean {
    this.#fill();
    return this.#lines.size === 0 && this.#tokens > 0;
  }

  /** Takes `length` tokens of a request that {@link idle} has let pass. */
  charge(line: Line, length: number): void {
    const start = Math.max(this.#virtual, line.finish);
    line.finish = start + length;
    this.#pass(start, length);
  }

  #fill(): void {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#filled) / 1000) * this.#rate);
    this.#filled = now;
  }

  /**
   * A request may pass if there is any token. The count may become negative; later requests wait
   * until it is paid back.
   */
  #pass(start: number, length: number): void {
    this.#tokens -= length;
    this.#virtual = Math.max(this.#virtual, start);
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#lines.size === 0) return;
    const ms = Math.max(1, Math.ceil((-this.#tokens / this.#rate) * 1000));
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#fill();
      for (let next = this.#next(); next && this.#tokens > 0; next = this.#next()) {
        const waiting = next.queue.shift()!;
        this.#pass(waiting.start, waiting.length);
        waiting.go();
      }
      this.#arm();
    }, ms);
  }

  /** The line whose first request passes next. */
  #next(): Line | undefined {
    let best: Line | undefined;
    for (const line of this.#lines) {
      const first = line.queue[0];
      if (!first) this.#lines.delete(line);
      else if (!best || first.start < best.queue[0]!.start) best = line;
    }
    return best;
  }
}

/** Removes a request that is given up. Its line gets back the share that the request would take. */
function cancel(line: Line, waiting: Waiting): void {
  const at = line.queue.indexOf(waiting);
  line.queue.splice(at, 1);
  for (const later of line.queue.slice(at)) later.start -= waiting.length;
  line.finish -= waiting.length;
}

/** A limit that several filters may share. */
export class RateLimit {
  /** Bytes per second in each direction. */
  readonly bytesPerSecond: number;
  /** @internal */
  readonly read: Bucket;
  /** @internal */
  readonly write: Bucket;

  /** @throws FarbusError if the rate is below 512 bytes per second or not a number */
  constructor(bytesPerSecond: number) {
    if (!(bytesPerSecond >= 512 && bytesPerSecond <= Number.MAX_SAFE_INTEGER)) {
      throw usageError(`a rate of ${bytesPerSecond} bytes a second is not possible: give 512 or more`);
    }
    this.bytesPerSecond = bytesPerSecond;
    this.read = new Bucket(bytesPerSecond);
    this.write = new Bucket(bytesPerSecond);
  }
}

/** Limits the bytes per second of reads and of writes; several filters may share one limit. */
export class RateFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #limit: RateLimit;
  readonly #reads: Line = { queue: [], finish: 0 };
  readonly #writes: Line = { queue: [], finish: 0 };

  /** @param limit a limit of its own, or one shared with other filters */
  constructor(next: BlockDevice, limit: RateLimit) {
    super(next);
    this.#limit = limit;
  }

  protected override get follows(): boolean {
    return true;
  }

  /**
   * Lowers `maxTransfer`, so that the base class splits long transfers and requests of other
   * filters pass in between.
   */
  protected override describe(next: BlockInfo): BlockInfo {
    const piece = 2 ** Math.floor(Math.log2(Math.max(1, this.#limit.bytesPerSecond * pieceSeconds)));
    return { ...next, maxTransfer: Math.max(next.blockSize, 4096, Math.min(next.maxTransfer, piece)) };
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    if (!direct) return undefined;
    const { read, write } = this.#limit;
    const pass = (bucket: Bucket, line: Line, length: number, act: () => boolean): boolean => {
      // The base class splits only asynchronous requests.
      if (length > this.info.maxTransfer || !bucket.idle || !act()) return false;
      bucket.charge(line, length);
      return true;
    };
    return {
      read: (offset, into) => pass(read, this.#reads, into.length, () => direct.read(offset, into)),
      write: (offset, from) => pass(write, this.#writes, from.length, () => direct.write(offset, from)),
    };
  }

  protected override async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    await this.#limit.read.take(this.#reads, into.length, options.signal);
    return this.next.read(offset, into, options);
  }

  protected override async doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    await this.#limit.write.take(this.#writes, from.length, options.signal);
    return this.next.write(offset, from, options);
  }
}

const parseRate = bytesFrom(512);

export const rateFilter = defineFilter({
  options: {
    rate: {
      value: 'BYTES/s',
      about:
        'limit reads and writes to so many bytes a second each; all connections to an export share ' +
        'the limit in equal parts',
      parse: (text, name) => parseRate(text.replace(/\/s$/, ''), name),
    },
  },
  perConnection: true,
  open: (device, { rate }) => (rate === undefined ? device : new RateFilter(device, new RateLimit(rate))),
});
