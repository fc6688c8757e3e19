/**
 * DescriptorDevice: a block device over an open file descriptor, whatever it is of. What needs no disk is done at once
 * (page-cache.node.ts); every other call runs on a thread, so that the event loop does not wait for one. What is special
 * to regular files and to block devices is in their own classes.
 */
import fs from 'node:fs';
import { promisify } from 'node:util';
import type { Buffers } from '../base/buffers.js';
import { BlockBase } from '../block/base.js';
import type { BlockInfo, FileRange, RequestOptions, WriteOptions, ZeroOptions } from '../block/device.js';
import { BlockError } from '../block/errors.js';
import type { Libc } from './libc.node.js';
import { maxAtOnce, PageCache } from './page-cache.node.js';
import { readAll, readThroughRing, readWhatIsCached, writeAll } from './transfer.node.js';
import { Uring } from './uring.node.js';

const fdatasync = promisify(fs.fdatasync);
const closeFd = promisify(fs.close);
const openFd = promisify(fs.open);

/** For how long nothing is fetched after what was fetched was not there, in ms. */
const fetchRestMs = 200;
/** Major number of the kernel's NBD devices. */
const nbdMajor = 43;

export abstract class DescriptorDevice extends BlockBase {
  #info: BlockInfo;
  #looking: Promise<void> | undefined;
  protected readonly fd: number;
  /** The same file opened with O_DSYNC, for FUA: it makes that write durable and no other. */
  readonly #syncFd: number | undefined;
  #lost: BlockError | undefined;
  /** Undefined where the page cache cannot be asked. */
  readonly #cache: PageCache | undefined;
  readonly #uring: Uring | undefined;
  /** When fetching is tried again, in ms of performance.now(). */
  #fetchAgain = 0;

  /**
   * Takes over both descriptors: `close` closes them.
   * @param regular Whether it is a regular file.
   */
  constructor(info: BlockInfo, fd: number, syncFd: number | undefined, native: Libc | undefined, regular: boolean) {
    super();
    if (native) {
      this.#cache = new PageCache(native, fd, regular);
      this.#uring = isOurs(fd) ? undefined : Uring.here();
    }
    this.#info = info;
    this.fd = fd;
    this.#syncFd = syncFd;
  }

  get info(): BlockInfo {
    return this.#info;
  }

  /** One look at a time: who asks meanwhile gets its answer too. */
  refresh(): Promise<void> {
    const look = async (): Promise<void> => {
      const found = await this.findSize().catch(() => undefined);
      this.#looking = undefined;
      const { size, blockSize } = this.#info;
      const whole = found === undefined ? 0 : found - (found % blockSize);
      if (whole > size) this.#info = { ...this.#info, size: whole };
    };
    return (this.#looking ??= look());
  }

  /** The file is in memory or on a local disk, whose file system answers questions about it without waiting. */
  protected get writesAtOnce(): boolean {
    return this.#cache?.writable ?? false;
  }

  protected override doReadNow(offset: number, into: Uint8Array): boolean {
    return into.length <= maxAtOnce && this.#cache?.read(into, offset) === into.length;
  }

  protected override doWriteNow(offset: number, from: Uint8Array): boolean {
    return this.#cache?.write(from, offset) ?? false;
  }

  protected override doFileNow(offset: number, length: number): FileRange | undefined {
    if (!this.#cache?.holds(offset, length)) return undefined;
    const ready = (at: number, count: number): boolean => this.#cache!.holds(at, count);
    return { fd: this.fd, offset, ready, release: () => undefined };
  }

  protected override async doFileSoon(offset: number, length: number): Promise<FileRange | undefined> {
    const ring = this.#uring;
    if (!ring || !this.#cache?.mayHold || length > maxAtOnce || performance.now() < this.#fetchAgain) return undefined;
    const fetched = await new Promise<number>((resolve) => {
      if (!ring.fetch(this.fd, offset, length, resolve)) resolve(-1);
    });
    const range = fetched > 0 ? this.doFileNow(offset, length) : undefined;
    // Some disks are not told of so much at once: they would be waited for twice.
    if (!range) this.#fetchAgain = performance.now() + fetchRestMs;
    return range;
  }

  protected async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const done = this.#cache ? readWhatIsCached(this.#cache, offset, into) : 0;
    if (done === into.length) return;
    const rest = done === 0 ? into : into.slice(done, into.length);
    if (this.#uring && (await readThroughRing(this.#uring, this.fd, offset + done, rest))) return;
    await readAll(this.fd, offset + done, rest, options.signal);
  }

  protected doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const fd = options.fua && this.#syncFd !== undefined ? this.#syncFd : this.fd;
    return writeAll(fd, offset, from, options.signal);
  }

  protected async doFlush(): Promise<void> {
    if (this.#lost) throw this.#lost;
    try {
      await (this.#cache ? this.#cache.during(() => fdatasync(this.fd)) : fdatasync(this.fd));
    } catch (error) {
      // After a failed sync the system may drop what it could not write and call the next sync a success. It is not
      // one: what was acknowledged before is in doubt for as long as the file is open.
      this.#lost = new BlockError('io', 'a flush failed: writes before it may be lost', { cause: error });
      throw error;
    }
  }

  protected override async doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    try {
      await this.discard(offset, length);
    } catch (error) {
      // A trim is a hint: a file system that cannot take it for this range leaves the blocks as they are.
      if (!isUnsupported(error)) throw error;
    }
    if (options.fua) await this.doFlush();
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    try {
      await this.zeroRange(offset, length, options);
    } catch (error) {
      if (isUnsupported(error)) throw new BlockError('unsupported', 'zeroes must be written here', { cause: error });
      throw error;
    }
    if (options.fua) await this.doFlush();
  }

  protected async doClose(): Promise<void> {
    await Promise.all([closeFd(this.fd), this.#syncFd === undefined ? undefined : closeFd(this.#syncFd)]);
  }

  /** The length of what is open now, in bytes; undefined where it cannot be told. */
  protected abstract findSize(): Promise<number | undefined>;
  /** Gives the blocks of a range back. Called only where `can.trim`; rejects with EOPNOTSUPP where it cannot. */
  protected abstract discard(offset: number, length: number): Promise<void>;
  /** Zeroes a range without a transfer. Called only where `can.writeZeroes`; rejects with EOPNOTSUPP where it cannot. */
  protected abstract zeroRange(offset: number, length: number, options: ZeroOptions): Promise<void>;
}

/** Whether it may be served by this very process, which must then not wait for it within a call: an NBD device, or a file on one. */
function isOurs(fd: number): boolean {
  const { dev, rdev } = fs.fstatSync(fd);
  return [dev, rdev].some((device) => ((device >> 8) & 0xfff) === nbdMajor);
}

/** Whether an error says that the call, not this request, is impossible here. */
export function isUnsupported(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return ['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'ENOTTY'].includes(code);
}

/** Opens what `fd` is open of once more, with O_DSYNC; undefined where that cannot be done. */
export async function openSynchronous(fd: number): Promise<number | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    return await openFd(`/proc/self/fd/${fd}`, fs.constants.O_RDWR | fs.constants.O_DSYNC);
  } catch {
    return undefined;
  }
}
