/**
 * Rate filter: holds reads and writes back so that no more than so many bytes a second pass, in each direction by itself
 * (a token bucket each). Several filters may share one limit: those who wait get equal shares of it, by start-time fair
 * queueing (Goyal, Vin, Cheng 1996), so that one with many or long requests takes nothing from one with few. Requests that
 * move no data (flush, trim, write zeroes, extents) pass at once.
 */
import type { Buffers } from '../../base/buffers.js';
import { usageError } from '../../base/errors.js';
import type { BlockDevice, BlockInfo, RequestOptions, WriteOptions } from '../device.js';
import { Filter } from './filter.js';
import { waitFor } from './wait.js';

/** Part of a second for which an idle limit may be used at once. */
const burstSeconds = 0.1;
/** Longest part of a second that one piece of a request may take: what others wait for it. */
const pieceSeconds = 1 / 16;
const leastBurst = 65_536;

interface Waiting {
  readonly start: number;
  readonly length: number;
  readonly go: () => void;
  cancelled: boolean;
}

/** Who waits, of one filter; in order. */
interface Line {
  readonly queue: Waiting[];
  /** Virtual time at which its last request is over, in bytes. */
  finish: number;
}

/** One direction's bucket, and those who wait for it. */
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

  /** Waits until `length` bytes may pass. */
  take(line: Line, length: number, signal: AbortSignal | undefined): Promise<void> | undefined {
    this.#fill();
    const start = Math.max(this.#virtual, line.finish);
    line.finish = start + length;
    if (this.#lines.size === 0 && this.#tokens > 0) {
      this.#pass(start, length);
      return undefined;
    }
    return waitFor(signal, (go) => {
      const waiting: Waiting = { start, length, go, cancelled: false };
      line.queue.push(waiting);
      this.#lines.add(line);
      this.#arm();
      return () => void (waiting.cancelled = true);
    });
  }

  #fill(): void {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#filled) / 1000) * this.#rate);
    this.#filled = now;
  }

  /** A request may pass when there is any token: what it takes beyond them is owed by all who come after. */
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

  /** The line whose first request is the next to pass. */
  #next(): Line | undefined {
    let best: Line | undefined;
    for (const line of this.#lines) {
      while (line.queue[0]?.cancelled) line.queue.shift();
      const first = line.queue[0];
      if (!first) this.#lines.delete(line);
      else if (!best || first.start < best.queue[0]!.start) best = line;
    }
    return best;
  }
}

/** A limit that filters share. */
export class RateLimit {
  /** Bytes a second in each direction. */
  readonly bytesPerSecond: number;
  readonly read: Bucket;
  readonly write: Bucket;

  /** @throws FarbusError where it is no rate that is possible. */
  constructor(bytesPerSecond: number) {
    if (!(bytesPerSecond >= 512 && bytesPerSecond <= Number.MAX_SAFE_INTEGER)) {
      throw usageError(`a rate of ${bytesPerSecond} bytes a second is not possible: give 512 or more`);
    }
    this.bytesPerSecond = bytesPerSecond;
    this.read = new Bucket(bytesPerSecond);
    this.write = new Bucket(bytesPerSecond);
  }
}

export class RateFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #limit: RateLimit;
  readonly #reads: Line = { queue: [], finish: 0 };
  readonly #writes: Line = { queue: [], finish: 0 };

  /** @param limit Its own, or one that it shares fairly with other filters. */
  constructor(next: BlockDevice, limit: RateLimit) {
    super(next);
    this.#limit = limit;
  }

  /** Transfers are split, so that a long one lets short ones of others pass in between. */
  protected override get follows(): boolean {
    return true;
  }

  protected override describe(next: BlockInfo): BlockInfo {
    const piece = 2 ** Math.floor(Math.log2(Math.max(1, this.#limit.bytesPerSecond * pieceSeconds)));
    return { ...next, maxTransfer: Math.max(next.blockSize, 4096, Math.min(next.maxTransfer, piece)) };
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
