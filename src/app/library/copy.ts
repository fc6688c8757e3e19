/** Copies and compares disks from a program: the library's form of `farbus copy`. */
import { failed, FarbusError, usageError } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import { compareDevices } from '../../block/compare.js';
import { copyDevice, type CopyResult } from '../../block/copy.js';
import type { BlockDevice } from '../../block/device.js';
import { tailError } from '../../block/tail.js';
import { CopyJob } from '../copy/job.js';
import { filesOf } from '../copy/start.js';
import { openTarget } from '../copy/target.js';
import { parseSource } from '../source-text.js';
import { openOrKeep } from './open.js';

/** Options of {@link copy} and {@link compare}. */
export interface DiskPairOptions {
  /** Requests in flight at once, 1 to 64. Default 8. */
  readonly jobs?: number;
  /** How long requests wait for a lost connection to another computer, in seconds. Default 60. */
  readonly reconnectSeconds?: number;
  /** Ends it. A copy then rejects when its position is durable, so that it can be resumed. */
  readonly signal?: AbortSignal;
  /** Receives warnings. Default: nothing is logged. */
  readonly log?: Logger;
  /** Receives the bytes that are done and their total number. Must not throw. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Options of {@link copy}. */
export interface CopyDisksOptions extends DiskPairOptions {
  /** Read both disks again afterwards and compare every byte. Default false. */
  readonly verify?: boolean;
  /**
   * Continue the copy to the same text that has ended early, from the position up to which it is
   * durable. Default false. Both ends must be texts.
   */
  readonly resume?: boolean;
  /**
   * With `resume`: you know that these are the disks with which the copy began, if nothing else
   * proves it. Default false.
   */
  readonly assumeSame?: boolean;
}

/** The result of {@link copy}, in bytes. */
export interface DiskCopy extends CopyResult {
  /** The size of the source. */
  readonly size: number;
  /** The position at which this copy began: 0, unless it was resumed. */
  readonly start: number;
}

/** How a program writes the options that messages name. */
const names = { resume: 'resume: true', assumeSame: 'assumeSame: true' };
/** Connections to a source whose server allows several; a lost packet delays one of them only. */
const connections = 4;

/**
 * Copies a disk. Zeroes and holes are not transferred. A text as target may name a new file, which
 * becomes sparse, or a new image such as `disk.qcow2`. A device as source or target stays open.
 *
 * @throws FarbusError if a disk cannot be opened, read or written, if they are the same disk, if
 * the target is too small, or if the disks differ afterwards (`verify`)
 *
 * @example
 * ```ts
 * import { copy } from 'farbus/node';
 *
 * const { size, copied } = await copy('ssh://server/dev/sdb', 'sdb.img', { verify: true });
 * console.log(`${copied} of ${size} bytes are not zero`);
 * ```
 */
export async function copy(
  from: string | BlockDevice,
  to: string | BlockDevice,
  options: CopyDisksOptions = {},
): Promise<DiskCopy> {
  const { reconnectSeconds = 60, log = silent, resume = false, signal } = options;
  if (resume && (typeof from !== 'string' || typeof to !== 'string')) {
    throw usageError('only a copy between two texts can be resumed: its journal is found by them');
  }
  const source = await openOrKeep(from, { readOnly: true, reconnectSeconds, log, signal, connections });
  try {
    const incomplete = tailError(nameOf(from, source), source.info);
    if (incomplete) throw incomplete;
    if (typeof to !== 'string') return await between(from, source, to, options);
    const opening = { reconnectSeconds, log, signal };
    const origin = typeof from === 'string' ? parseSource(from) : undefined;
    const place = parseSource(to);
    const { device, fresh } = await openTarget(origin, place, source.info.size, resume, opening);
    try {
      if (typeof from !== 'string') return await between(from, source, device, options, fresh);
      return await byTexts({ from, to, ...filesOf(origin!, place), source, target: device, fresh }, options);
    } finally {
      await device.close();
    }
  } finally {
    await source.close();
  }
}

interface Ends extends ReturnType<typeof filesOf> {
  readonly from: string;
  readonly to: string;
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  readonly fresh: boolean;
}

/** A copy with a journal, by which it can be resumed. */
async function byTexts(ends: Ends, options: CopyDisksOptions): Promise<DiskCopy> {
  const { jobs = 8, verify = false, resume = false, assumeSame = false, log = silent, onProgress } = options;
  const signal = options.signal ?? new AbortController().signal;
  const job = new CopyJob({ ...ends, jobs, verify, resume, log, signal, assumeSame, names, env: process.env });
  await job.run((_label, done, total) => onProgress?.(done, total));
  const { size, start, copied = 0, zeroes = 0 } = job.state;
  return { size, start, copied, zeroes };
}

/** A copy from or to a device of the caller. */
async function between(
  from: string | BlockDevice,
  source: BlockDevice,
  target: BlockDevice,
  { jobs = 8, verify = false, signal, onProgress }: CopyDisksOptions,
  fresh = false,
): Promise<DiskCopy> {
  const { size } = source.info;
  if (from === target) throw usageError('source and target of the copy are the same device');
  if (target.info.size < size) {
    throw new FarbusError(`the target has ${target.info.size} bytes, and ${size} are needed: give a larger one`);
  }
  const common = { jobs, ...(signal && { signal }) };
  const result = await copyDevice(source, target, {
    ...common,
    fresh,
    ...(onProgress && { onProgress: (position: number) => onProgress(position, size) }),
  }).catch((error: unknown) => {
    throw failed('the copy failed', error);
  });
  const different = verify ? await compareDevices(source, target, common) : undefined;
  if (different !== undefined) throw new FarbusError(`the copy differs at byte ${different}: was a disk written?`);
  return { ...result, size, start: 0 };
}

/**
 * Compares two disks byte by byte. Ranges that both report as zeroes are not read. A device stays
 * open.
 *
 * @returns the offset of a byte that differs (the lowest that was found, not always the first);
 * undefined if there is none. If one disk is longer and otherwise equal: the size of the other.
 * @throws FarbusError if a disk cannot be opened; BlockError if it cannot be read
 *
 * @example
 * ```ts
 * import { compare } from 'farbus/node';
 *
 * const at = await compare('disk.img', 'nbd://server/disk.img');
 * console.log(at === undefined ? 'they are equal' : `they differ at byte ${at}`);
 * ```
 */
export async function compare(
  a: string | BlockDevice,
  b: string | BlockDevice,
  options: DiskPairOptions = {},
): Promise<number | undefined> {
  const { reconnectSeconds = 60, log = silent, signal, jobs = 8, onProgress } = options;
  const opening = { readOnly: true, reconnectSeconds, log, signal, connections };
  const one = await openOrKeep(a, opening);
  try {
    const other = await openOrKeep(b, opening);
    try {
      const [short, long] = one.info.size <= other.info.size ? [one, other] : [other, one];
      const { size } = short.info;
      const progress = onProgress && { onProgress: (done: number): void => onProgress(done, size) };
      const different = await compareDevices(short, long, { jobs, ...(signal && { signal }), ...progress });
      return different ?? (size === long.info.size ? undefined : size);
    } finally {
      await other.close();
    }
  } finally {
    await one.close();
  }
}

function nameOf(disk: string | BlockDevice, { info }: BlockDevice): string {
  return typeof disk === 'string' ? disk : info.identity || 'the source';
}
