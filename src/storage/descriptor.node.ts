/**
 * DescriptorDevice: a block device over an open file descriptor. Transfers that need no disk run on
 * the caller's thread (page-cache.node.ts), other reads by io_uring (uring.node.ts) if it is
 * available, and every other call on a thread, so that the event loop never waits for a disk.
 *
 * Not here: the differences between regular files (file.node.ts) and block devices
 * (block-device.node.ts).
 */
import fs from 'node:fs';
import { promisify } from 'node:util';
import type { Buffers } from '../base/buffers.js';
import { BlockBase } from '../block/base.js';
import type { BlockInfo, RequestOptions, WriteOptions, ZeroOptions } from '../block/device.js';
import type { DirectAccess, FileRange, FileRanges } from '../block/direct.js';
import { BlockError } from '../block/errors.js';
import type { FileCalls } from '../linux/files.node.js';
import { maxAtOnce, PageCache } from './page-cache.node.js';
import { readAll, readThroughRing, readWhatIsCached, writeAll } from './transfer.node.js';
import { Uring } from './uring.node.js';

const fdatasync = promisify(fs.fdatasync);
const closeFd = promisify(fs.close);
const openFd = promisify(fs.open);

/** Major number of the kernel's NBD devices. */
const nbdMajor = 43;

export abstract class DescriptorDevice extends BlockBase {
  #info: BlockInfo;
  #looking: Promise<void> | undefined;
  protected readonly fd: number;
  /**
   * The same file opened with O_DSYNC, for FUA: a write through it makes only that write durable.
   */
  readonly #syncFd: number | undefined;
  /** Set after a failed flush: every later flush fails too. */
  #lost: BlockError | undefined;
  /** Undefined without koffi. */
  readonly #cache: PageCache | undefined;
  readonly #uring: Uring | undefined;

  /**
   * Takes over both descriptors: `close` closes them.
   * @param regular true for a regular file, false for a block device
   */
  constructor(
    info: BlockInfo,
    fd: number,
    syncFd: number | undefined,
    native: FileCalls | undefined,
    regular: boolean,
  ) {
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

  /** One check at a time: calls that come meanwhile share its result. */
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

  /**
   * True if the file is in memory or on a known local file system, so that fstat(2) does not wait.
   */
  protected get writesAtOnce(): boolean {
    return this.#cache?.writable ?? false;
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    const cache = this.#cache;
    return (
      cache && {
        read: (offset, into) => into.length <= maxAtOnce && cache.read(into, offset) === into.length,
        write: (offset, from) => cache.write(from, offset),
      }
    );
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    const cache = this.#cache;
    if (!cache?.mayHold) return undefined;
    const resident = (offset: number, length: number): FileRange | undefined => {
      if (!cache.holds(offset, length)) return undefined;
      const ready = (at: number, count: number): boolean => cache.holds(at, count);
      return { fd: this.fd, offset, ready, release: () => undefined };
    };
    return { resident };
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
      // After a failed fdatasync the kernel may drop the pages that it could not write, and let the
      // next fdatasync succeed. Acknowledged writes are in doubt as long as the file is open, so
      // all later flushes must fail.
      this.#lost = new BlockError('io', 'a flush failed: writes before it may be lost', { cause: error });
      throw error;
    }
  }

  protected override async doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    try {
      await this.discard(offset, length);
    } catch (error) {
      // A trim is a hint. If the file system cannot do it for this range, the blocks keep their
      // content.
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

  /** The present length of the file or device, in bytes; undefined if it is unknown. */
  protected abstract findSize(): Promise<number | undefined>;
  /**
   * Frees the blocks of a range. Called only if `can.trim`; rejects with EOPNOTSUPP if it is
   * impossible.
   */
  protected abstract discard(offset: number, length: number): Promise<void>;
  /**
   * Zeroes a range without a transfer. Called only if `can.writeZeroes`; rejects with EOPNOTSUPP if
   * it is impossible.
   */
  protected abstract zeroRange(offset: number, length: number, options: ZeroOptions): Promise<void>;
}

/**
 * True for an NBD device, or a file on one: this very process may be its server, so a call on this
 * thread must not wait for it.
 */
function isOurs(fd: number): boolean {
  const { dev, rdev } = fs.fstatSync(fd);
  return [dev, rdev].some((device) => ((device >> 8) & 0xfff) === nbdMajor);
}

/**
 * True if the error says that the system cannot do such calls at all, rather than that this request
 * failed.
 */
export function isUnsupported(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return ['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'ENOTTY'].includes(code);
}

/** Opens the file of `fd` a second time, with O_DSYNC; undefined if that is impossible. */
export async function openSynchronous(fd: number): Promise<number | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    return await openFd(`/proc/self/fd/${fd}`, fs.constants.O_RDWR | fs.constants.O_DSYNC);
  } catch {
    return undefined;
  }
}
