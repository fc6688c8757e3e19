/**
 * Copies one device to another, with many requests in flight, in bounded memory. Holes and zeroes
 * are not transferred. Checkpoints let an interrupted copy resume.
 *
 * Not here: the order of the parts (copy-plan.ts), storing checkpoints (the caller does), comparing
 * (compare.ts).
 */
import { buffersOf } from '../base/buffers.js';
import { planCopy, zeroRuns, type CopyItem } from './copy-plan.js';
import type { BlockDevice } from './device.js';
import { BlockError, blockErrorOf } from './errors.js';

/** Options of {@link copyDevice}. */
export interface CopyOptions {
  /** Requests in flight; each has a buffer of one chunk. Default 8. */
  readonly jobs?: number;
  /**
   * Longest request (chunk) in bytes, a power of two; less if a device takes less. Default 1 MiB.
   */
  readonly chunkSize?: number;
  /**
   * Offset of the first byte to copy, a multiple of both block sizes. Earlier bytes are copied
   * already. Default 0.
   */
  readonly start?: number;
  /** True if `to` reads as zeroes from `start` on, so that zeroes need not be written. */
  readonly fresh?: boolean;
  /**
   * Stops the copy after a last checkpoint. {@link copyDevice} then rejects with a CopyFailure of
   * kind `aborted`.
   */
  readonly signal?: AbortSignal;
  /**
   * Receives the position: all bytes before it are copied. In bytes from the start of the device.
   * Must not throw.
   */
  readonly onProgress?: (position: number) => void;
  /**
   * Called from time to time, and at the end, when all bytes before `position` are durable on `to`.
   */
  readonly checkpoint?: (position: number) => Promise<void>;
  /**
   * Shortest time between two checkpoints, in ms, and at least ten times the duration of the last
   * one. Default 1000.
   */
  readonly checkpointMs?: number;
}

/** The result of a copy. */
export interface CopyResult {
  /** Bytes that were transferred. */
  readonly copied: number;
  /** Bytes that are zero and were therefore not transferred. */
  readonly zeroes: number;
}

/** Why a copy ended early. */
export class CopyFailure extends Error {
  /** The name of the class. */
  override readonly name = 'CopyFailure';
  /**
   * The device that failed; undefined if the copy was aborted or its checkpoint could not be
   * stored.
   */
  readonly side: 'from' | 'to' | undefined;
  /** Offset of the first byte that could not be copied, if known. */
  readonly at: number | undefined;
  /** All bytes before this one are copied and durable. */
  readonly position: number;
  /** The error of the request that failed. */
  override readonly cause: BlockError;

  constructor(side: 'from' | 'to' | undefined, at: number | undefined, position: number, cause: BlockError) {
    super(cause.message);
    this.side = side;
    this.at = at;
    this.position = position;
    this.cause = cause;
  }
}

/**
 * Copies `from` to the same offsets of `to`, from `options.start` to the end of `from`. Resolves
 * when all is durable (if `to` can flush). No request is in flight after it has settled.
 * @throws CopyFailure
 */
export async function copyDevice(from: BlockDevice, to: BlockDevice, options: CopyOptions = {}): Promise<CopyResult> {
  return new Copy(from, to, options).run();
}

/** The first failure of a copy. */
interface Failure {
  readonly side: 'from' | 'to' | undefined;
  readonly at: number | undefined;
  readonly error: BlockError;
}

/** The failure of one request, with the device and offset at which it occurred. */
class SideError extends Error {
  readonly side: 'from' | 'to';
  readonly at: number;

  constructor(side: 'from' | 'to', at: number, cause: unknown) {
    super('', { cause });
    this.side = side;
    this.at = at;
  }
}

class Copy {
  readonly #from: BlockDevice;
  readonly #to: BlockDevice;
  readonly #options: CopyOptions;
  readonly #chunk: number;
  /** Offsets of the items that are in flight or have failed. */
  readonly #open = new Set<number>();
  /** End of the last item that has begun. */
  #begun: number;
  /** All bytes before this offset are durable. */
  #durable: number;
  #failure: Failure | undefined;
  #checkpointing: Promise<void> | undefined;
  #nextCheckpoint: number;
  #copied = 0;
  #zeroes = 0;

  constructor(from: BlockDevice, to: BlockDevice, options: CopyOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#begun = this.#durable = options.start ?? 0;
    this.#nextCheckpoint = performance.now() + (options.checkpointMs ?? 1000);
    const unit = Math.max(from.info.blockSize, to.info.blockSize);
    const most = Math.min(options.chunkSize ?? 1 << 20, from.info.maxTransfer, to.info.maxTransfer);
    this.#chunk = Math.max(unit, 2 ** Math.floor(Math.log2(most)));
  }

  async run(): Promise<CopyResult> {
    const { jobs = 8, signal, start = 0 } = this.#options;
    const plan = planCopy(this.#from, start, this.#chunk, this.#to.info.blockSize, signal);
    const items = this.#track(plan);
    await Promise.all(Array.from({ length: jobs }, () => this.#work(items)));
    await this.#checkpointing;
    await this.#finish();
    if (this.#failure) {
      const { side, at, error } = this.#failure;
      throw new CopyFailure(side, at, this.#durable, error);
    }
    return { copied: this.#copied, zeroes: this.#zeroes };
  }

  /**
   * Yields the items of the plan, each after it has been noted as in flight, so that no checkpoint
   * can pass over it.
   */
  async *#track(plan: AsyncIterable<CopyItem>): AsyncGenerator<CopyItem, void, undefined> {
    for await (const item of plan) {
      this.#open.add(item.offset);
      this.#begun = item.offset + item.length;
      yield item;
    }
  }

  async #work(items: AsyncGenerator<CopyItem, void, undefined>): Promise<void> {
    const memory = new Uint8Array(this.#chunk);
    while (!this.#failure) {
      const item = await this.#next(items);
      if (!item) return;
      // Another worker failed meanwhile. The item stays in `#open`, so that it counts as not
      // copied.
      if (this.#failure) return;
      try {
        this.#options.signal?.throwIfAborted();
        await this.#one(item, memory);
        this.#open.delete(item.offset);
      } catch (error) {
        this.#fail(error);
        return;
      }
      this.#options.onProgress?.(this.#position());
      this.#checkpointNow();
    }
  }

  async #next(items: AsyncGenerator<CopyItem, void, undefined>): Promise<CopyItem | undefined> {
    try {
      const { value, done } = await items.next();
      return done ? undefined : value;
    } catch (error) {
      this.#fail(new SideError('from', this.#begun, error));
      return undefined;
    }
  }

  #fail(error: unknown): void {
    if (this.#failure) return;
    if (this.#options.signal?.aborted) {
      this.#failure = { side: undefined, at: undefined, error: new BlockError('aborted', 'the copy was given up') };
    } else if (error instanceof SideError) {
      this.#failure = { side: error.side, at: error.at, error: blockErrorOf(error.cause) };
    } else {
      this.#failure = { side: undefined, at: undefined, error: blockErrorOf(error) };
    }
  }

  #position(): number {
    let position = this.#begun;
    for (const offset of this.#open) position = Math.min(position, offset);
    return position;
  }

  async #one({ offset, length, zero }: CopyItem, memory: Uint8Array): Promise<void> {
    if (zero) return this.#zero(offset, length);
    const bytes = memory.subarray(0, length);
    const { signal } = this.#options;
    try {
      await this.#from.read(offset, buffersOf(bytes), { ...(signal && { signal }) });
    } catch (error) {
      throw new SideError('from', await this.#firstUnreadable(offset, length, error), error);
    }
    for (const run of zeroRuns(bytes)) {
      if (run.zero) await this.#zero(offset + run.offset, run.length);
      else await this.#write(offset + run.offset, bytes.subarray(run.offset, run.offset + run.length));
    }
  }

  /**
   * Searches a range that could not be read for its first unreadable block, by bisection: the
   * device's error names only the whole range.
   */
  async #firstUnreadable(offset: number, length: number, error: unknown): Promise<number> {
    const unit = Math.max(512, this.#from.info.blockSize);
    if (blockErrorOf(error).kind !== 'io') return offset;
    const { signal } = this.#options;
    let [good, bad] = [offset, offset + length];
    while (bad - good > unit) {
      const middle = good + Math.max(unit, Math.floor((bad - good) / 2 / unit) * unit);
      try {
        await this.#from.read(good, buffersOf(new Uint8Array(middle - good)), { ...(signal && { signal }) });
        good = middle;
      } catch {
        if (signal?.aborted) return offset;
        bad = middle;
      }
    }
    return good;
  }

  async #zero(offset: number, length: number): Promise<void> {
    this.#zeroes += length;
    if (this.#options.fresh) return;
    const tail = length % this.#to.info.blockSize;
    try {
      await this.#to.writeZeroes(offset, length - tail, this.#requestOptions());
      if (tail > 0) await this.#writeTail(offset + length - tail, new Uint8Array(tail));
    } catch (error) {
      throw new SideError('to', offset, error);
    }
  }

  async #write(offset: number, bytes: Uint8Array): Promise<void> {
    const tail = bytes.length % this.#to.info.blockSize;
    const whole = bytes.subarray(0, bytes.length - tail);
    try {
      await this.#to.write(offset, buffersOf(whole), this.#requestOptions());
      if (tail > 0) await this.#writeTail(offset + whole.length, bytes.subarray(whole.length));
    } catch (error) {
      throw new SideError('to', offset, error);
    }
    this.#copied += bytes.length;
  }

  /**
   * Writes the last bytes, if they do not fill a block of `to`. The rest of that block keeps its
   * content.
   */
  async #writeTail(offset: number, bytes: Uint8Array): Promise<void> {
    const block = new Uint8Array(this.#to.info.blockSize);
    await this.#to.read(offset, buffersOf(block));
    block.set(bytes);
    await this.#to.write(offset, buffersOf(block), this.#requestOptions());
  }

  #requestOptions(): { signal?: AbortSignal } {
    const { signal } = this.#options;
    return signal ? { signal } : {};
  }

  #checkpointNow(): void {
    const { checkpoint } = this.#options;
    const now = performance.now();
    if (!checkpoint || now < this.#nextCheckpoint || this.#checkpointing || this.#failure) return;
    this.#checkpointing = this.#checkpoint()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#checkpointing = undefined;
        const { checkpointMs = 1000 } = this.#options;
        const end = performance.now();
        this.#nextCheckpoint = end + Math.max(checkpointMs, 10 * (end - now));
      });
  }

  async #checkpoint(): Promise<void> {
    // Taken before the flush, because a flush covers only the writes that were acknowledged before
    // it.
    const position = this.#position();
    try {
      await this.#to.flush();
    } catch (error) {
      throw new SideError('to', position, error);
    }
    this.#durable = position;
    await this.#options.checkpoint?.(position);
  }

  /** Makes the last checkpoint. Its failure is reported only if the copy has not failed before. */
  async #finish(): Promise<void> {
    try {
      await this.#checkpoint();
    } catch (error) {
      this.#fail(error);
    }
  }
}
