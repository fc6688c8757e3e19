/**
 * A regular file as a block device. Its size is the file's length at opening, or at the last
 * `refresh` if the file has grown. If the file shrinks while it is open, reads, extents and writes
 * beyond its new end fail with kind `io`; a write there would fill the gap with zeroes. The default
 * block size is 1, because a file's length need not be whole sectors.
 *
 * With koffi, `trim` punches holes, `writeZeroes` transfers nothing, and `extents` reports holes.
 * Without koffi the same requests work, but slower. A file is locked against other programs only
 * with the option `exclusive`.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { bootId } from '../base/boot-id.node.js';
import { FarbusError } from '../base/errors.js';
import type { Buffers } from '../base/buffers.js';
import type { BlockDevice, BlockInfo, Extent, WriteOptions, ZeroOptions } from '../block/device.js';
import type { DirectAccess } from '../block/direct.js';
import { DescriptorDevice, isUnsupported, openSynchronous } from './descriptor.node.js';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fileCalls,
  SEEK_DATA,
  SEEK_HOLE,
  type FileCalls,
} from '../linux/files.node.js';
import { rotates } from './sysfs.node.js';
import { shorter } from './transfer.node.js';
import { openDescriptor, openError, pathIdentity, printable, type Opened, type OpenOptions } from './opening.node.js';

const fstat = promisify(fs.fstat);
const closeFd = promisify(fs.close);
const openFd = promisify(fs.open);

/** Most extents in one answer: a file with very many small holes is reported in parts. */
const maxExtents = 128;
/**
 * A synchronous write uses a measured length for this time, in ms: fstat(2) costs as much as the
 * write.
 */
const believedMs = 5;
/**
 * A file that was changed less than this time ago has no version, in ms: its next change may get
 * the same time, because file systems count in steps of up to 2 s (vfat).
 */
const settledMs = 3000;

export interface FileOptions extends OpenOptions {
  /** Block size in bytes, a power of two that divides the file's length. Default 1. */
  readonly blockSize?: number | undefined;
}

export class FileDevice extends DescriptorDevice {
  readonly #calls: FileCalls | undefined;
  #zeroRangeWorks = true;
  /** The file's length in bytes, and when it was measured, in ms of performance.now(). */
  #length = 0;
  #measured = -Infinity;
  /** Writes, trims and zeroings in flight. */
  #changing = 0;

  constructor(info: BlockInfo, fd: number, syncFd: number | undefined, native: FileCalls | undefined) {
    super(info, fd, syncFd, native, true);
    this.#calls = native;
  }

  protected async findSize(): Promise<number> {
    return (await fstat(this.fd)).size;
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    const direct = super.uncheckedDirect;
    return (
      direct && {
        read: (offset, into) => direct.read(offset, into),
        write: (offset, from) => this.#reaches(offset + from.length) && direct.write(offset, from),
      }
    );
  }

  protected override async doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    await this.#checkEnd(offset + from.length);
    return this.#change(() => super.doWrite(offset, from, options));
  }

  protected override async doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    await this.#checkEnd(offset + length);
    return this.#change(() => super.doTrim(offset, length, options));
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    await this.#checkEnd(offset + length);
    return this.#change(() => super.doWriteZeroes(offset, length, options));
  }

  async #change(change: () => Promise<void>): Promise<void> {
    this.#changing++;
    try {
      await change();
    } finally {
      this.#changing--;
    }
  }

  /**
   * The file's identity and the time of its last change, which a program cannot set. After a power
   * failure that time may be older than the content, so the boot of this computer counts too. Not
   * seen: a program that goes on writing through a memory mapping whose pages it has changed
   * before; one write of another program that takes longer than `settledMs`; and a date that is set
   * back on a file system that keeps no time of change, such as FAT.
   */
  override get contentVersion(): BlockDevice['contentVersion'] {
    const boot = bootId();
    if (boot === '') return undefined;
    return async () => {
      // Before the file is asked: this process may stand still until the answer is there.
      const now = Date.now();
      // A write in flight has set the time already, but not yet all bytes.
      if (this.#changing > 0) return undefined;
      const { dev, ino, birthtimeNs, ctimeNs, mtimeNs, size } = await fstat(this.fd, { bigint: true });
      const age = now - Number(ctimeNs / 1_000_000n);
      if (this.#changing > 0 || age < settledMs) return undefined;
      const facts = [boot, dev, ino, birthtimeNs, ctimeNs, mtimeNs, size];
      return createHash('sha256').update(facts.join()).digest('base64url').slice(0, 32);
    };
  }

  /** Fails if the file has shrunk, because acknowledged writes beyond its end are lost. */
  protected override async doFlush(): Promise<void> {
    if (!this.info.readOnly) await this.#checkEnd(this.info.size);
    return super.doFlush();
  }

  /**
   * True if the file was at least `end` bytes long up to `believedMs` ago. A write beyond the end
   * of a file that has shrunk would extend it again, and the gap before the write would read as
   * zeroes that no client has written.
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
    await this.#calls!.fallocate(this.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  }

  protected override async zeroRange(offset: number, length: number, options: ZeroOptions): Promise<void> {
    if (!options.noHole) return this.discard(offset, length);
    if (!this.#zeroRangeWorks) throw Object.assign(new Error('no zero range here'), { code: 'EOPNOTSUPP' });
    try {
      await this.#calls!.fallocate(this.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
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
      const data = await this.#calls!.seek(fd, at, SEEK_DATA);
      if (data === undefined) {
        // A hole up to the file's end. If the file has shrunk, the range beyond its end is not a
        // hole.
        const { size } = await fstat(fd);
        add(at, Math.min(end, size - (size % blockSize)), true);
        if (list.length === 0) throw shorter(size);
        break;
      }
      // A block that contains any data counts as data.
      const from = Math.min(end, Math.max(at, data - (data % blockSize)));
      add(at, from, true);
      at = from;
      if (at >= end) break;
      // Undefined if the file has shrunk meanwhile: report data, and a read of it will fail.
      const hole = (await this.#calls!.seek(fd, Math.max(at, data), SEEK_HOLE)) ?? end;
      const to = Math.min(end, Math.ceil(Math.max(hole, at + 1) / blockSize) * blockSize);
      add(at, to, false);
      at = to;
    }
    return list;
  }
}

/**
 * Opens a regular file.
 * @throws FarbusError if it cannot be opened as the options demand
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
  const native = options.native === false ? undefined : fileCalls();
  const stat = await fstat(fd);
  const { dev: device, ino, birthtimeNs } = await fstat(fd, { bigint: true });
  if (!stat.isFile()) throw new FarbusError(`cannot open ${printable(path)}: it is no regular file: give a file`);
  if (options.exclusive && native) await native.lock(fd);
  const blockSize = options.blockSize ?? 1;
  if (stat.size % blockSize !== 0) {
    const message = `cannot open ${printable(path)}: its length is not whole blocks of ${blockSize}: choose another size`;
    throw new FarbusError(message);
  }
  const holes = !readOnly && native !== undefined && (await canPunch(native, fd, stat.size, path, options.dryRun));
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
    // Without a birth time there is no mark: file systems soon reuse an inode number.
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

/** Flag of open(2), together with O_DIRECTORY: a file without a name. Node does not list it. */
const O_TMPFILE = 0o20000000;

/**
 * True if the file system can punch holes. Tested beyond the file's end, where there is no data to
 * lose. That changes the file's times on some file systems, so a dry run tests it on a file without
 * a name in the same folder; false if it cannot make one.
 */
async function canPunch(
  native: FileCalls,
  fd: number,
  size: number,
  path: string,
  dryRun: boolean | undefined,
): Promise<boolean> {
  const punch = (file: number, at: number): Promise<void> =>
    native.fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 4096);
  try {
    if (!dryRun) await punch(fd, size);
    else {
      const { O_RDWR, O_DIRECTORY } = fs.constants;
      const nameless = await openFd(dirname(await realpath(path)), O_TMPFILE | O_DIRECTORY | O_RDWR, 0o600);
      await punch(nameless, 0).finally(() => closeFd(nameless));
    }
    return true;
  } catch {
    return false;
  }
}
