/**
 * Copying a device onto another: many requests at a time, in bounded memory, holes and zeroes not transferred, with points
 * from which it can go on. Knows no files: who calls keeps the points. Comparing is in compare.ts.
 */
import { buffersOf } from '../base/buffers.js';
import { planCopy, zeroRuns, type CopyItem } from './copy-plan.js';
import type { BlockDevice } from './device.js';
import { BlockError, blockErrorOf } from './errors.js';

export interface CopyOptions {
  /** Requests under way at once; each has memory of one chunk. Default 8. */
  readonly jobs?: number;
  /** Bytes of a request, a power of two; less where a device takes less. Default 1 MiB. */
  readonly chunkSize?: number;
  /** First byte to copy; all before it is done already. A multiple of both block sizes. */
  readonly start?: number;
  /** `to` reads as zeroes from `start` on: zeroes need not be written. */
  readonly fresh?: boolean;
  /** Ends it in good order; {@link copyDevice} then rejects with a CopyFailure of kind `aborted`. */
  readonly signal?: AbortSignal;
  /** Told how far it is, in bytes from the start of the device. Must not throw. */
  readonly onProgress?: (position: number) => void;
  /** Called when all before `position` is durable on `to`, now and then and where the copy ends early. */
  readonly checkpoint?: (position: number) => Promise<void>;
  /** Shortest time between two checkpoints, in ms; ten times as long as the last one took, at least. Default 1000. */
  readonly checkpointMs?: number;
}

export interface CopyResult {
  /** Bytes that were read and written. */
  readonly copied: number;
  /** Bytes that are zero and were not transferred. */
  readonly zeroes: number;
}

/** Why a copy ended early. */
export class CopyFailure extends Error {
  override readonly name = 'CopyFailure';
  /** Which device failed; undefined where the copy was given up or a checkpoint failed. */
  readonly side: 'from' | 'to' | undefined;
  /** The first byte that could not be copied, where that is known. */
  readonly at: number | undefined;
  /** All before this byte is copied and durable. */
  readonly position: number;
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
 * Copies all of `from` to the start of `to`, from `start` on. Resolves when all is durable (as far as `to` can flush).
 * Never has a request under way after it has settled.
 * @throws CopyFailure
 */
export async function copyDevice(from: BlockDevice, to: BlockDevice, options: CopyOptions = {}): Promise<CopyResult> {
  return new Copy(from, to, options).run();
}

/** What a request failed with, and where. */
interface Failure {
  readonly side: 'from' | 'to' | undefined;
  readonly at: number | undefined;
  readonly error: BlockError;
}

/** A failure of one request on its way through the workers. */
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
  /** Starts of the items that are under way or have failed. */
  readonly #open = new Set<number>();
  /** End of the last item that was begun. */
  #begun: number;
  /** All before it is durable. */
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

  /** The plan, its items noted as under way before anybody can see them. */
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
      // Another one failed while this was being planned: it stays open, and is not done.
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

  /** The first block that cannot be read of a range that could not: a disk's message is about the range. */
  async #firstUnreadable(offset: number, length: number, error: unknown): Promise<number> {
    const unit = Math.max(512, this.#from.info.blockSize);
    if (blockErrorOf(error).kind !== 'io') return offset;
    let [good, bad] = [offset, offset + length];
    while (bad - good > unit) {
      const middle = good + Math.max(unit, Math.floor((bad - good) / 2 / unit) * unit);
      try {
        await this.#from.read(good, buffersOf(new Uint8Array(middle - good)));
        good = middle;
      } catch {
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

  /** The last bytes, where they are no whole block of a larger device: what is behind them there stays. */
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
    // Before the flush: it covers what was acknowledged before it, and no more.
    const position = this.#position();
    try {
      await this.#to.flush();
    } catch (error) {
      throw new SideError('to', position, error);
    }
    this.#durable = position;
    await this.#options.checkpoint?.(position);
  }

  /** The last checkpoint. Where the copy has failed already, a failure of this one says nothing new. */
  async #finish(): Promise<void> {
    try {
      await this.#checkpoint();
    } catch (error) {
      this.#fail(error);
    }
  }
}
