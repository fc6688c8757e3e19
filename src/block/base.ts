/**
 * BlockBase: the base class of every block device. It checks each request once, splits requests
 * that are too long, emulates operations that the device lacks, converts every thrown error into a
 * BlockError, and counts the requests in flight. A subclass implements only what is special to its
 * device.
 *
 * Not here: the interface and its promises (device.ts).
 */
import { asBuffers, buffersOf, type Buffers, type Bytes } from '../base/buffers.js';
import { messageOf } from '../base/errors.js';
import type {
  BlockDevice,
  BlockInfo,
  Extent,
  RemovableMedia,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from './device.js';
import type { DirectAccess, FileRange, FileRanges } from './direct.js';
import { abortedError, BlockError, blockErrorOf, closedError } from './errors.js';
import { Losses } from './losses.js';
import type { WriterLock } from './writer-lock.js';

/** Longest single write of zeroes on a device that lacks `writeZeroes`, in bytes. */
const zeroChunk = 1 << 20;
let zeroes: Uint8Array | undefined;

/** Requests that began between two calls of {@link BlockBase.settled}. */
interface Span {
  inFlight: number;
  over?: () => void;
}

interface Facets {
  readonly direct?: DirectAccess | undefined;
  readonly files?: FileRanges | undefined;
}

/** The base class of every block device: a subclass implements only what is special to it. */
export abstract class BlockBase implements BlockDevice {
  /** The device's facts. See `blockInfo`. */
  abstract readonly info: BlockInfo;
  #closing: Promise<void> | undefined;
  #inFlight = 0;
  #idle: (() => void) | undefined;
  #losses: Losses | undefined;
  #facets: Facets | undefined;
  #span: Span = { inFlight: 0 };
  /** Resolves when the requests of all earlier spans have settled. */
  #earlier: Promise<unknown> = Promise.resolve();

  /** Reads. The range has been checked, and 0 < into.length ≤ maxTransfer. */
  protected abstract doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void>;
  /** Writes a range checked as for {@link doRead}. `options.fua` is set only if `can.fua`. */
  protected abstract doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void>;
  /** Flushes. Called only if `can.flush`. */
  protected abstract doFlush(options: RequestOptions): Promise<void>;
  /** Trims a checked range of any length. Called only if `can.trim`. */
  protected doTrim(_offset: number, _length: number, _options: WriteOptions): Promise<void> {
    return Promise.reject(new BlockError('unsupported', 'trim is not supported'));
  }
  /**
   * Zeroes a checked range of any length. Called only if `can.writeZeroes`. If it rejects with
   * `unsupported`, the base class writes zeroes instead.
   */
  protected doWriteZeroes(_offset: number, _length: number, _options: ZeroOptions): Promise<void> {
    return Promise.reject(new BlockError('unsupported', 'write zeroes is not supported'));
  }
  /** Reports extents of a checked range. Called only if `can.extents`. */
  protected doExtents(offset: number, length: number, _options: RequestOptions): Promise<readonly Extent[]> {
    return Promise.resolve([{ offset, length, hole: false, zero: false }]);
  }
  /** Releases everything. Called once, when no request is in flight. */
  protected abstract doClose(): Promise<void>;

  /**
   * {@link BlockDevice.direct} for checked ranges; undefined if the device has none. Read once,
   * after the construction.
   */
  protected get uncheckedDirect(): DirectAccess | undefined {
    return undefined;
  }

  /** {@link BlockDevice.files} for checked ranges, like {@link uncheckedDirect}. */
  protected get uncheckedFiles(): FileRanges | undefined {
    return undefined;
  }

  /** {@link BlockDevice.media}; undefined unless a drive with removable media overrides it. */
  get media(): RemovableMedia | undefined {
    return undefined;
  }

  /** {@link BlockDevice.writerLock}; undefined unless a device overrides it. */
  get writerLock(): WriterLock | undefined {
    return undefined;
  }

  /** {@link BlockDevice.watchSize}; undefined unless a device overrides it. */
  get watchSize(): BlockDevice['watchSize'] {
    return undefined;
  }

  /** {@link BlockDevice.contentVersion}; undefined unless a device overrides it. */
  get contentVersion(): BlockDevice['contentVersion'] {
    return undefined;
  }

  get direct(): DirectAccess | undefined {
    return (this.#facets ??= this.#makeFacets()).direct;
  }

  get files(): FileRanges | undefined {
    return (this.#facets ??= this.#makeFacets()).files;
  }

  /** Adds the checks of each request to the facets, and counts lent file ranges as in flight. */
  #makeFacets(): Facets {
    if (this.media) return {};
    const { uncheckedDirect: direct, uncheckedFiles: files } = this;
    return {
      direct: direct && {
        read: (offset, into) => {
          this.#check(offset, into.length);
          return direct.read(offset, into);
        },
        write: (offset, from) => {
          this.#checkWrite(offset, from.length);
          return direct.write(offset, from);
        },
      },
      files: files && {
        resident: (offset, length) => {
          this.#check(offset, length);
          return this.#lend(files.resident(offset, length));
        },
      },
    };
  }

  /** Counts a file range as in flight until its holder releases it. */
  #lend(range: FileRange | undefined): FileRange | undefined {
    if (!range) return undefined;
    this.#inFlight++;
    const release = (): void => {
      range.release();
      if (--this.#inFlight === 0) this.#idle?.();
    };
    return { fd: range.fd, offset: range.offset, ready: (at, count) => range.ready(at, count), release };
  }

  async read(offset: number, into: Bytes, options: RequestOptions = {}): Promise<void> {
    checkMedium(this.media, options);
    const buffers = placesOf(into);
    this.#check(offset, buffers.length);
    if (buffers.length === 0) return;
    await this.#run(options, () => this.#split(offset, buffers, (at, part) => this.doRead(at, part, options)));
  }

  async write(offset: number, from: Bytes, options: WriteOptions = {}): Promise<void> {
    checkMedium(this.media, options);
    const buffers = placesOf(from);
    this.#checkWrite(offset, buffers.length);
    if (buffers.length === 0) return;
    const { own, flushAfter } = this.#durability(options);
    await this.#run(options, async () => {
      await this.#split(offset, buffers, (at, part) => this.doWrite(at, part, own));
      if (flushAfter) await this.#flush(options);
    });
  }

  /** Losses of acknowledged writes, for every user of the device. */
  get losses(): Losses {
    return (this.#losses ??= new Losses());
  }

  async flush(options: RequestOptions = {}): Promise<void> {
    checkMedium(this.media, options);
    this.#checkOpen();
    if (!this.info.can.flush) return;
    await this.#run(options, () => this.#flush(options));
  }

  async trim(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    checkMedium(this.media, options);
    this.#checkWrite(offset, length);
    if (length === 0 || !this.info.can.trim) return;
    const { own, flushAfter } = this.#durability(options);
    await this.#run(options, async () => {
      await this.doTrim(offset, length, own);
      if (flushAfter) await this.#flush(options);
    });
  }

  async writeZeroes(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    checkMedium(this.media, options);
    this.#checkWrite(offset, length);
    if (length === 0) return;
    const { own, flushAfter } = this.#durability(options);
    await this.#run(options, async () => {
      await this.#zero(offset, length, own);
      if (flushAfter) await this.#flush(options);
    });
  }

  async extents(offset: number, length: number, options: RequestOptions = {}): Promise<readonly Extent[]> {
    checkMedium(this.media, options);
    this.#check(offset, length);
    if (length === 0) return [];
    if (!this.info.can.extents) return [{ offset, length, hole: false, zero: false }];
    return this.#run(options, async () => {
      const extents = await this.doExtents(offset, length, options);
      // Callers continue after the last extent. Without progress they would ask for `offset` for
      // ever.
      const first = extents[0];
      const covers = first && first.offset <= offset && first.offset + first.length > offset;
      if (covers && extents.every((extent) => extent.length > 0)) return extents;
      throw new BlockError('io', `the device does not say what is at byte ${offset}`);
    });
  }

  async settled(): Promise<void> {
    const span = this.#span;
    if (span.inFlight > 0) {
      const over = new Promise<void>((resolve) => (span.over = resolve));
      this.#earlier = Promise.all([this.#earlier, over]);
      this.#span = { inFlight: 0 };
    }
    await this.#earlier;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
      await this.doClose();
    })();
    return this.#closing;
  }

  async #flush(options: RequestOptions): Promise<void> {
    try {
      await this.doFlush(options);
    } catch (error) {
      this.losses.note(blockErrorOf(error));
      throw error;
    }
  }

  async #zero(offset: number, length: number, options: ZeroOptions): Promise<void> {
    if (this.info.can.writeZeroes) {
      try {
        return await this.doWriteZeroes(offset, length, options);
      } catch (error) {
        if (blockErrorOf(error).kind !== 'unsupported' || options.fastOnly) throw error;
      }
    }
    if (options.fastOnly) throw new BlockError('unsupported', 'zeroing is not faster than writing here');
    zeroes ??= new Uint8Array(zeroChunk);
    const step = Math.min(zeroChunk, this.info.maxTransfer);
    for (let done = 0; done < length; done += step) {
      options.signal?.throwIfAborted();
      const part = zeroes.subarray(0, Math.min(step, length - done));
      await this.doWrite(offset + done, buffersOf(part), options);
    }
  }

  /**
   * How to make a request durable: FUA if the device has it, else a flush after it, if it has
   * flush.
   */
  #durability<T extends WriteOptions>(options: T): { own: T; flushAfter: boolean } {
    const { fua, flush } = this.info.can;
    if (!options.fua || fua) return { own: options, flushAfter: false };
    return { own: { ...options, fua: false }, flushAfter: flush };
  }

  async #split(offset: number, all: Buffers, one: (at: number, part: Buffers) => Promise<void>): Promise<void> {
    const max = this.info.maxTransfer;
    if (all.length <= max) return one(offset, all);
    for (let done = 0; done < all.length; done += max) {
      await one(offset + done, all.slice(done, Math.min(all.length, done + max)));
    }
  }

  async #run<T>(options: RequestOptions, work: () => Promise<T>): Promise<T> {
    const span = this.#span;
    span.inFlight++;
    this.#inFlight++;
    try {
      if (options.signal?.aborted) throw new BlockError('aborted', 'given up before it began');
      return await work();
    } catch (error) {
      if (options.signal?.aborted && !(error instanceof BlockError)) {
        throw abortedError(error);
      }
      throw blockErrorOf(error);
    } finally {
      if (--span.inFlight === 0) span.over?.();
      if (--this.#inFlight === 0) this.#idle?.();
    }
  }

  #checkOpen(): void {
    if (this.#closing) throw closedError();
  }

  #check(offset: number, length: number): void {
    this.#checkOpen();
    const { size, blockSize } = this.info;
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0)) {
      throw new BlockError('range', `offset ${offset} or length ${length} is not a byte count`);
    }
    if (offset + length > size) {
      throw new BlockError('range', `bytes ${offset}+${length} are beyond the end of the device (${size})`);
    }
    if (offset % blockSize !== 0 || length % blockSize !== 0) {
      throw new BlockError('range', `bytes ${offset}+${length} are not whole blocks of ${blockSize}`);
    }
  }

  #checkWrite(offset: number, length: number): void {
    this.#check(offset, length);
    if (this.info.readOnly) throw new BlockError('read-only', 'the device is read-only');
  }
}

/** `bytes` as Buffers. @throws BlockError if an untyped caller passes something else */
function placesOf(bytes: Bytes): Buffers {
  try {
    return asBuffers(bytes);
  } catch (error) {
    throw new BlockError('range', messageOf(error), { cause: error });
  }
}

/**
 * Checks that a request is meant for the medium that is in the drive.
 * @throws BlockError if it is not
 */
export function checkMedium(media: RemovableMedia | undefined, { medium }: RequestOptions): void {
  if (!media) return;
  if (media.medium === '') throw new BlockError('no-medium', 'the drive has no medium');
  if ((medium ?? media.first) !== media.medium) throw new BlockError('no-medium', 'another medium is in the drive');
}
