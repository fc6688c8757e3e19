/**
 * A regular file as a block device. Its size is the file's when it was opened, and when it was looked at since if the
 * file has become longer. A file that becomes shorter underneath gives errors of kind `io` behind its new end: reads,
 * extents and writes fail there, since a write would fill the gap with zeroes. The block size is 1: a file has bytes,
 * and its length need not be whole sectors.
 *
 * With koffi, `trim` punches holes, `writeZeroes` transfers nothing and `extents` knows the holes. Without it the
 * same requests work, slower. A file is not locked against other programs unless `exclusive` is asked.
 */
import fs from 'node:fs';
import { promisify } from 'node:util';
import { FarbusError } from '../base/errors.js';
import type { Buffers } from '../base/buffers.js';
import type { BlockInfo, Extent, WriteOptions, ZeroOptions } from '../block/device.js';
import { DescriptorDevice, isUnsupported, openSynchronous } from './descriptor.node.js';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  libc,
  SEEK_DATA,
  SEEK_HOLE,
  type Libc,
} from './libc.node.js';
import { rotates } from './sysfs.node.js';
import { shorter } from './transfer.node.js';
import { openDescriptor, openError, pathIdentity, printable, type Opened, type OpenOptions } from './opening.node.js';

const fstat = promisify(fs.fstat);
const closeFd = promisify(fs.close);

/** Most extents that one request answers: a file of very many small holes is told in parts. */
const maxExtents = 128;
/** How long a measured length is believed before a write that is done at once, in ms: a measurement costs as much. */
const believedMs = 5;

export interface FileOptions extends OpenOptions {
  /** Block size in bytes, a power of two that divides the file's length. Default 1. */
  readonly blockSize?: number | undefined;
}

export class FileDevice extends DescriptorDevice {
  readonly #libc: Libc | undefined;
  #zeroRangeWorks = true;
  /** The file's length in bytes, and when it was measured, in ms of performance.now(). */
  #length = 0;
  #measured = -Infinity;

  constructor(info: BlockInfo, fd: number, syncFd: number | undefined, native: Libc | undefined) {
    super(info, fd, syncFd, native, true);
    this.#libc = native;
  }

  protected async findSize(): Promise<number> {
    return (await fstat(this.fd)).size;
  }

  protected override doWriteNow(offset: number, from: Uint8Array): boolean {
    return this.#reaches(offset + from.length) && super.doWriteNow(offset, from);
  }

  protected override async doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    await this.#checkEnd(offset + from.length);
    return super.doWrite(offset, from, options);
  }

  protected override async doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    await this.#checkEnd(offset + length);
    return super.doTrim(offset, length, options);
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    await this.#checkEnd(offset + length);
    return super.doWriteZeroes(offset, length, options);
  }

  /** What was acknowledged beyond the end of a file that has become shorter is lost: that is no success. */
  protected override async doFlush(): Promise<void> {
    if (!this.info.readOnly) await this.#checkEnd(this.info.size);
    return super.doFlush();
  }

  /**
   * Whether the file was at least `end` bytes long a moment ago. A write behind the end of a file that has become shorter
   * would make it longer again, and the gap before the write would read as zeroes that nobody wrote.
   */
  #reaches(end: number): boolean {
    const now = performance.now();
    if (now - this.#measured > believedMs) {
      this.#length = fs.fstatSync(this.fd).size;
      this.#measured = now;
    }
    return end <= this.#length;
  }

  async #checkEnd(end: number): Promise<void> {
    const { size } = this.writesAtOnce ? fs.fstatSync(this.fd) : await fstat(this.fd);
    if (end > size) throw shorter(size);
  }

  protected override async discard(offset: number, length: number): Promise<void> {
    await this.#libc!.fallocate(this.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  }

  protected override async zeroRange(offset: number, length: number, options: ZeroOptions): Promise<void> {
    if (!options.noHole) return this.discard(offset, length);
    if (!this.#zeroRangeWorks) throw Object.assign(new Error('no zero range here'), { code: 'EOPNOTSUPP' });
    try {
      await this.#libc!.fallocate(this.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
    } catch (error) {
      if (isUnsupported(error)) this.#zeroRangeWorks = false;
      throw error;
    }
  }

  protected override async doExtents(offset: number, length: number): Promise<readonly Extent[]> {
    const { fd } = this;
    const { blockSize } = this.info;
    const end = offset + length;
    const list: Extent[] = [];
    const add = (from: number, to: number, hole: boolean): void => {
      if (to > from) list.push({ offset: from, length: to - from, hole, zero: hole });
    };
    for (let at = offset; at < end && list.length < maxExtents;) {
      const data = await this.#libc!.seek(fd, at, SEEK_DATA);
      if (data === undefined) {
        // A hole up to the file's end. What is behind the end of a file that has become shorter is none.
        const { size } = await fstat(fd);
        add(at, Math.min(end, size - (size % blockSize)), true);
        if (list.length === 0) throw shorter(size);
        break;
      }
      // A block that is partly data is data.
      const from = Math.min(end, Math.max(at, data - (data % blockSize)));
      add(at, from, true);
      at = from;
      if (at >= end) break;
      // Undefined if the file has become shorter since: a read of these bytes reports it.
      const hole = (await this.#libc!.seek(fd, Math.max(at, data), SEEK_HOLE)) ?? end;
      const to = Math.min(end, Math.ceil(Math.max(hole, at + 1) / blockSize) * blockSize);
      add(at, to, false);
      at = to;
    }
    return list;
  }
}

/**
 * Opens a regular file.
 * @throws FarbusError where it cannot be opened as asked.
 */
export async function openFile(path: string, options: FileOptions = {}): Promise<FileDevice> {
  let fd: number | undefined;
  try {
    const opened = await openDescriptor(path, options.readOnly);
    fd = opened.fd;
    return await fileDevice(path, opened, options);
  } catch (error) {
    if (fd !== undefined) await closeFd(fd).catch(() => undefined);
    throw openError(path, error, options);
  }
}

async function fileDevice(path: string, { fd, readOnly }: Opened, options: FileOptions): Promise<FileDevice> {
  const native = options.native === false ? undefined : libc();
  const stat = await fstat(fd);
  const { dev: device, ino, birthtimeNs } = await fstat(fd, { bigint: true });
  if (!stat.isFile()) throw new FarbusError(`cannot open ${printable(path)}: it is no regular file: give a file`);
  if (options.exclusive && native) await native.lock(fd);
  const blockSize = options.blockSize ?? 1;
  if (stat.size % blockSize !== 0) {
    const message = `cannot open ${printable(path)}: its length is not whole blocks of ${blockSize}: choose another size`;
    throw new FarbusError(message);
  }
  const holes = !readOnly && native !== undefined && (await canPunch(native, fd, stat.size));
  const identity = await pathIdentity(path);
  const syncFd = readOnly ? undefined : await openSynchronous(fd);
  const info: BlockInfo = {
    size: stat.size,
    blockSize,
    preferredSize: Math.max(4096, blockSize),
    maxTransfer: 1 << 25,
    readOnly,
    removable: false,
    rotational: process.platform === 'linux' && (await rotates(fd, device)),
    identity,
    // Some file systems do not tell the time of birth; an inode number alone is soon used again.
    marks: birthtimeNs > 0n ? { file: `${ino}:${birthtimeNs}` } : {},
    can: {
      flush: true,
      fua: syncFd !== undefined,
      trim: holes,
      writeZeroes: holes,
      extents: native !== undefined,
      multiConnection: true,
    },
  };
  return new FileDevice(info, fd, syncFd, native);
}

/** Whether the file system punches holes: asked behind the file's end, where there is nothing to lose. */
async function canPunch(native: Libc, fd: number, size: number): Promise<boolean> {
  try {
    await native.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size, 4096);
    return true;
  } catch {
    return false;
  }
}
