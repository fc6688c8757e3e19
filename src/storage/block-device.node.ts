/**
 * A block device of this computer ([SYS] physical I/O device 914) as a BlockDevice. For Linux; on
 * other systems it is read-only with blocks of 512 bytes. A writable device is opened exclusively
 * (O_EXCL, open(2)), so that a disk with a mounted file system or another server is not
 * overwritten.
 *
 * Size and block size come from the kernel by ioctl with koffi, else from sysfs, else from a search
 * for the end. With koffi, `trim` and `writeZeroes` reach the device. Holes are not reported.
 *
 * Not here: changes of a removable medium (removable.node.ts).
 */
import fs from 'node:fs';
import { stat } from 'node:fs/promises';
import { endianness } from 'node:os';
import { promisify } from 'node:util';
import { errnoOf, FarbusError } from '../base/errors.js';
import type { BlockInfo, ZeroOptions } from '../block/device.js';
import { DescriptorDevice, openSynchronous } from './descriptor.node.js';
import {
  BLKDISCARD,
  BLKGETSIZE64,
  BLKROGET,
  BLKSSZGET,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fileCalls,
  type FileCalls,
} from '../linux/files.node.js';
import {
  openDescriptor,
  openError,
  pathIdentity,
  printable,
  readOnlyHint,
  type Opened,
  type OpenOptions,
} from './opening.node.js';
import { blockFacts, deviceNumber, findUse, type BlockFacts } from './sysfs.node.js';

const closeFd = promisify(fs.close);
const realPath = promisify(fs.realpath);

export class LocalBlockDevice extends DescriptorDevice {
  readonly #calls: FileCalls | undefined;
  readonly #number: string;

  /** @param number device number as in sysfs: "8:1" */
  constructor(info: BlockInfo, fd: number, syncFd: number | undefined, native: FileCalls | undefined, number: string) {
    super(info, fd, syncFd, native, false);
    this.#calls = native;
    this.#number = number;
  }

  protected async findSize(): Promise<number | undefined> {
    const answer = new BigUint64Array(1);
    if (this.#calls) await this.#calls.ioctl(this.fd, BLKGETSIZE64, new Uint8Array(answer.buffer));
    else return (await blockFacts(this.#number)).size;
    return Number(answer[0]);
  }

  protected override async discard(offset: number, length: number): Promise<void> {
    const range = new BigUint64Array([BigInt(offset), BigInt(length)]);
    await this.#calls!.ioctl(this.fd, BLKDISCARD, new Uint8Array(range.buffer));
  }

  /**
   * Punching a hole makes the device zero the range itself, or fails. ZERO_RANGE may write zeroes
   * instead.
   */
  protected override async zeroRange(offset: number, length: number, options: ZeroOptions): Promise<void> {
    const mode = options.noHole ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
    if (options.noHole && options.fastOnly) {
      throw Object.assign(new Error('zeroing without a hole may be a write'), { code: 'EOPNOTSUPP' });
    }
    await this.#calls!.fallocate(this.fd, mode | FALLOC_FL_KEEP_SIZE, offset, length);
  }
}

/**
 * Opens a block device.
 * @param flags further flags of open(2)
 * @throws FarbusError if it cannot be opened as the options demand, or if it would be written but
 * is in use (mounted, swap, …)
 */
export async function openBlockDevice(path: string, options: OpenOptions = {}, flags = 0): Promise<LocalBlockDevice> {
  let fd: number | undefined;
  try {
    const real = await realPath(path);
    const facts = await blockFacts(deviceNumber((await stat(real, { bigint: true })).rdev));
    const readOnly = options.readOnly ?? (process.platform === 'linux' && !facts.readOnly ? undefined : true);
    const opened = await openUnused(real, facts, { ...options, readOnly }, flags);
    fd = opened.fd;
    return await blockDevice(real, opened, facts, options);
  } catch (error) {
    if (fd !== undefined) await closeFd(fd).catch(() => undefined);
    throw openError(path, error, options);
  }
}

async function openUnused(path: string, facts: BlockFacts, options: OpenOptions, flags: number): Promise<Opened> {
  const exclusive = options.exclusive ?? true;
  try {
    const opened = await openDescriptor(path, options.readOnly, exclusive ? fs.constants.O_EXCL : 0, flags);
    if (opened.readOnly || exclusive) return opened;
    const error = await inUse(path, facts, options);
    if (!error) return opened;
    await closeFd(opened.fd);
    throw error;
  } catch (error) {
    if (errnoOf(error) !== 'EBUSY') throw error;
    throw (await inUse(path, facts, options)) ?? error;
  }
}

async function inUse(path: string, facts: BlockFacts, options: OpenOptions): Promise<FarbusError | undefined> {
  const use = await findUse(path, facts);
  if (!use) return undefined;
  const hint = options.readOnly === undefined ? `, ${readOnlyHint}` : '';
  return new FarbusError(`${printable(use.device)} is ${printable(use.how)}: ${use.remedy}${hint}`);
}

async function blockDevice(
  path: string,
  { fd, readOnly }: Opened,
  facts: BlockFacts,
  options: OpenOptions,
): Promise<LocalBlockDevice> {
  const native = options.native === false ? undefined : fileCalls();
  const ask = async (request: number, bytes: 4 | 8): Promise<number | undefined> => {
    const answer = new DataView(new ArrayBuffer(bytes));
    try {
      await native!.ioctl(fd, request, new Uint8Array(answer.buffer));
    } catch {
      return undefined;
    }
    const little = endianness() === 'LE';
    return bytes === 4 ? answer.getUint32(0, little) : Number(answer.getBigUint64(0, little));
  };
  const blockSize = (native && (await ask(BLKSSZGET, 4))) || facts.blockSize || 512;
  const found = (native && (await ask(BLKGETSIZE64, 8))) ?? facts.size ?? (await findEnd(fd));
  const writable = !readOnly && !facts.readOnly && !(native && (await ask(BLKROGET, 4)));
  if (options.readOnly === false && !writable) throw Object.assign(new Error('read-only'), { code: 'EROFS' });
  const identity = facts.wwid === '' ? await pathIdentity(path) : `disk:${facts.wwid}`;
  const syncFd = writable ? await openSynchronous(fd) : undefined;
  const info: BlockInfo = {
    size: found - (found % blockSize),
    blockSize,
    preferredSize: Math.max(4096, blockSize),
    maxTransfer: 1 << 25,
    readOnly: !writable,
    removable: facts.removable,
    rotational: facts.rotational,
    identity,
    marks: facts.marks,
    can: {
      flush: true,
      fua: syncFd !== undefined,
      trim: writable && native !== undefined && facts.discard,
      writeZeroes: writable && native !== undefined && facts.zeroes,
      extents: false,
      multiConnection: true,
    },
  };
  return new LocalBlockDevice(info, fd, syncFd, native, facts.number);
}

/**
 * Searches for the end of an open device whose size is unknown: the first sector that cannot be
 * read. In bytes.
 */
export async function findEnd(fd: number): Promise<number> {
  const sector = 512;
  const one = Buffer.allocUnsafe(1);
  const readable = (at: number): Promise<boolean> =>
    new Promise((resolve, reject) =>
      fs.read(fd, one, 0, 1, at * sector, (error, bytes) => {
        // Some systems answer a read beyond the end with an error.
        if (error && !['EINVAL', 'ENXIO', 'EIO'].includes(error.code ?? '')) reject(error);
        else resolve(!error && bytes === 1);
      }),
    );
  let above = 1;
  while (above < 2 ** 43 && (await readable(above - 1))) above *= 2;
  let below = Math.floor(above / 2);
  // Sector below-1 is readable (or below is 0), sector above-1 is not.
  while (above - below > 1) {
    const middle = Math.floor((above + below) / 2);
    if (await readable(middle - 1)) below = middle;
    else above = middle;
  }
  return below * sector;
}
