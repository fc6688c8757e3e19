/**
 * The virtual I/O client 260 ([SYS] fig. 8, R8): decides whether a command is a read or a write,
 * sends it with its parameters, and receives or sends the data. A logical device uses it as its
 * medium.
 *
 * Not here: the transport (NBD, AoE, dd over ssh), which is the BlockDevice below it, usually an
 * initiator.
 */
import type { Bytes } from '../base/buffers.js';
import { Steps } from '../base/steps.js';
import type {
  BlockDevice,
  BlockInfo,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from '../block/device.js';
import type { DirectAccess } from '../block/direct.js';
import type { Losses } from '../block/losses.js';
import { RecentWrites } from './recent-writes.js';

/** I/O counters. A synchronous transfer counts once for each contiguous run of guest memory. */
export interface IoCounts {
  /** Reads. */
  reads: number;
  /** Writes. */
  writes: number;
  /** Other requests: flushes, trims, zeroing. */
  others: number;
  /** Bytes of the reads. */
  readBytes: number;
  /** Bytes of the writes. */
  writtenBytes: number;
  /** Requests that failed. */
  errors: number;
}

export class VirtualIoClient implements BlockDevice {
  readonly counts: IoCounts = { reads: 0, writes: 0, others: 0, readBytes: 0, writtenBytes: 0, errors: 0 };
  /** Where the guest has written last. */
  recent = new RecentWrites();
  /** Declines while tracing, because only `read` and `write` report trace steps. */
  readonly direct: DirectAccess | undefined;
  readonly #far: BlockDevice;
  readonly #steps: Steps;

  constructor(far: BlockDevice, steps = new Steps()) {
    this.#far = far;
    this.#steps = steps;
    const { direct } = far;
    this.direct = direct && {
      read: (offset, into) => {
        if (steps.on || !direct.read(offset, into)) return false;
        this.counts.reads++;
        this.counts.readBytes += into.length;
        return true;
      },
      write: (offset, from) => {
        if (steps.on || !direct.write(offset, from)) return false;
        this.recent.write(offset, from.length, false);
        this.counts.writes++;
        this.counts.writtenBytes += from.length;
        return true;
      },
    };
  }

  /** The remote device. */
  get far(): BlockDevice {
    return this.#far;
  }

  get info(): BlockInfo {
    return this.#far.info;
  }

  get losses(): Losses {
    return this.#far.losses;
  }

  /** The media of a remote drive; undefined if its medium cannot change. */
  get media(): RemovableMedia | undefined {
    return this.#far.media;
  }

  get watchSize(): BlockDevice['watchSize'] {
    return this.#far.watchSize;
  }

  async read(offset: number, into: Bytes, options: RequestOptions = {}): Promise<void> {
    const { length } = into;
    this.counts.reads++;
    this.#decided(options, 'read', offset, length);
    this.#step(options, '262', 'send the command: sector number, count', offset, length);
    await this.#counted(this.#far.read(offset, into, options), options);
    this.counts.readBytes += length;
    this.#step(options, '263', 'the data is received', offset, length);
  }

  async write(offset: number, from: Bytes, options: WriteOptions = {}): Promise<void> {
    const { length } = from;
    this.recent.write(offset, length, options.fua === true);
    this.counts.writes++;
    this.#decided(options, 'write', offset, length);
    this.#step(options, '264', 'send the command: sector number, count', offset, length);
    await this.#counted(this.#far.write(offset, from, options), options);
    this.counts.writtenBytes += length;
    this.#step(options, '265', 'the data is sent and acknowledged', offset, length);
  }

  async flush(options: RequestOptions = {}): Promise<void> {
    this.recent.flush();
    await this.#other('flush', this.#far.flush(options), options);
  }

  async trim(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    this.recent.write(offset, length, false);
    await this.#other('trim', this.#far.trim(offset, length, options), options, offset, length);
  }

  async writeZeroes(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    this.recent.write(offset, length, options.fua === true);
    await this.#other('write zeroes', this.#far.writeZeroes(offset, length, options), options, offset, length);
  }

  extents(offset: number, length: number, options: RequestOptions = {}): Promise<readonly Extent[]> {
    return this.#far.extents(offset, length, options);
  }

  close(): Promise<void> {
    return this.#far.close();
  }

  async #other(what: string, done: Promise<void>, options: RequestOptions, offset = 0, length = 0): Promise<void> {
    this.counts.others++;
    this.#decided(options, what, offset, length);
    this.#step(options, '264', 'send the command', offset, length);
    await this.#counted(done, options);
    this.#step(options, '265', 'it is acknowledged', offset, length);
  }

  async #counted(done: Promise<void>, options: RequestOptions): Promise<void> {
    try {
      await done;
    } catch (error) {
      this.counts.errors++;
      this.#steps.step(
        options.traceId ?? 0,
        '26x',
        `failed: ${error instanceof Error ? error.message : String(error)}`,
      );
      throw error;
    }
  }

  /** Step 261. */
  #decided({ traceId = 0 }: RequestOptions, operation: string, offset: number, length: number): void {
    if (!this.#steps.on) return;
    this.#steps.command(traceId, operation + rangeText(offset, length), { operation, offset, length });
  }

  #step({ traceId = 0 }: RequestOptions, id: string, what: string, offset: number, length: number): void {
    if (this.#steps.on) this.#steps.step(traceId, id, what + rangeText(offset, length));
  }
}

function rangeText(offset: number, length: number): string {
  return length > 0 ? ` (sector ${offset / 512}, ${length / 512} sectors)` : '';
}
