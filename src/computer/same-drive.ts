/**
 * Checks that a computer resumes from a snapshot with the same drives, and with their content, and
 * gives the drives their former names. The guest's memory caches parts of its disks: on another
 * disk, the guest would write them over that disk's data.
 *
 * Not here: how changed content is noticed (unchanged.ts).
 */
import { hexOf } from '../base/hex.js';
import { Deadline } from '../base/deadline.js';
import { messageOf } from '../base/errors.js';
import type { BlockDevice, RequestOptions } from '../block/device.js';
import { compareIdentity, formatIdentity, parseIdentity, type DiskIdentity, type Verdict } from '../block/identity.js';
import { SnapshotError, type SnapshotDrive } from '../machine/snapshot.js';
import { identifyDisk } from '../probe/disk-identity.js';
import { worldWideName, type DriveIdentity, type SaidIdentity } from './identity.js';
import type { RecentWrites } from './recent-writes.js';
import { isUnchanged, witnessOf } from './unchanged.js';

/** Time limit for examining one far device, in ms. */
const lookMs = 60_000;

/** The facts about a drive that matter here. */
export interface Drive {
  readonly index: number;
  /** The far device, or the inserted medium; undefined for an empty drive. */
  readonly medium: BlockDevice | undefined;
  /** True if the user asserts that it is the same disk. */
  readonly assumeSame: boolean;
  /** Where the guest has written it last. */
  readonly recent: RecentWrites;
}

/**
 * The facts that a snapshot stores about a drive.
 * @param unused true if the guest remembers nothing of the content, as long as it has not written
 * @throws SnapshotError if the far device cannot be examined
 */
export async function driveFacts(drive: Drive, shown: DriveIdentity, unused: boolean): Promise<SnapshotDrive> {
  const { medium, recent } = drive;
  const disk = await look(drive);
  const { serial, model, uuid } = shown;
  const facts = { ...factsOf(drive), disk: formatIdentity(disk), shown: { serial, model, uuid: hexOf(uuid) } };
  if (!medium || (unused && !recent.changed)) return facts;
  // A crash of the server must not take what the guest believes to be written.
  if (!medium.info.readOnly) await examine(drive, (options) => medium.flush(options), 'flushed');
  return { ...facts, content: await examine(drive, (options) => witnessOf(medium, recent.ends(), options)) };
}

/**
 * Refuses a drive that is not known to be the one of the snapshot, or that was written since. The
 * guest may write a drive that it had not used when it was saved.
 * @param evenIfWritten the user wants to go on although the drive was written
 * @throws SnapshotError
 */
export async function checkSame(then: SnapshotDrive, drive: Drive, evenIfWritten = false): Promise<void> {
  await checkDisk(then, drive);
  const { content } = then;
  const { medium, index } = drive;
  if (!medium || !content || evenIfWritten) return;
  if (await examine(drive, (options) => isUnchanged(medium, content, options))) return;
  throw new SnapshotError(
    `drive ${index} was written after it was saved, and the guest would damage the file systems on it`,
    'written',
  );
}

async function checkDisk(then: SnapshotDrive, drive: Drive): Promise<void> {
  const now = factsOf(drive);
  const another = `drive ${drive.index} is not the same as before`;
  if (then.size !== now.size) {
    throw new SnapshotError(`${another}: it has ${now.size} bytes and had ${then.size}`);
  }
  if (sectorOf(then.blockSize) !== sectorOf(now.blockSize) || then.readOnly !== now.readOnly) {
    throw new SnapshotError(`${another}: its block size or its write protection differs`);
  }
  if (!drive.medium || drive.assumeSame) return;
  const before = parseIdentity(then.disk);
  if (!before) throw new SnapshotError('its header is damaged', 'damaged');
  const { verdict, why } = await compare(before, drive);
  if (verdict === 'same') return;
  const advice = 'give that disk, or ,assume-same with the drive if you know that it is the same';
  throw new SnapshotError(`drive ${drive.index} is ${why}: ${advice}`);
}

/**
 * Reads the disk only if the marks that its source reports do not decide. Sampled content decides
 * only if nothing else does.
 */
async function compare(before: DiskIdentity, drive: Drive): Promise<Verdict> {
  const { size, marks = {} } = drive.medium!.info;
  const told = compareIdentity(before, { size, marks });
  if (told.verdict !== 'unknown') return told;
  const now = await look(drive);
  const found = compareIdentity(before, now);
  if (found.verdict !== 'unknown') return found;
  const sampled = compareIdentity(before, now, { unchanged: true });
  return sampled.verdict === 'same' ? sampled : found;
}

function factsOf({ medium }: Drive): Pick<SnapshotDrive, 'size' | 'blockSize' | 'readOnly'> {
  const { size = 0, blockSize = 0, readOnly = false } = medium?.info ?? {};
  return { size, blockSize, readOnly };
}

async function look(drive: Drive): Promise<DiskIdentity> {
  const { medium } = drive;
  return medium ? examine(drive, (options) => identifyDisk(medium, options)) : { size: 0, marks: {} };
}

/** @throws SnapshotError if the far device fails, or takes too long */
async function examine<T>({ index }: Drive, work: (options: RequestOptions) => Promise<T>, done = 'read'): Promise<T> {
  const limit = new Deadline(lookMs);
  const late = new Promise<never>((_, reject) => {
    limit.signal.addEventListener('abort', () => reject(new Error(`no answer within ${lookMs / 1000} s`)));
  });
  try {
    return await Promise.race([work({ signal: limit.signal }), late]);
  } catch (error) {
    throw new SnapshotError(`the far device of drive ${index} cannot be ${done}: ${messageOf(error)}`);
  } finally {
    limit.end();
  }
}

/**
 * Gives a drive the names that it had, because the guest knows it by them.
 * @param said the names that the user states now
 * @throws SnapshotError if the user states other names
 */
export function goOnAs(identity: DriveIdentity, shown: SnapshotDrive['shown'], said: SaidIdentity & { index: number }) {
  const { serial, model } = shown;
  if ((said.serial ?? serial) !== serial || (said.model ?? model) !== model) {
    throw new SnapshotError(`drive ${said.index} was started as ${model}, serial number ${serial}`);
  }
  const uuid = bytes(shown.uuid);
  Object.assign(identity, { serial, model, uuid, worldWideName: worldWideName(uuid) } satisfies Partial<DriveIdentity>);
}

/**
 * The sector size that a guest sees for blocks of `blockSize` bytes; 0 for an empty drive. A server
 * may report smaller blocks after a reconnect.
 */
function sectorOf(blockSize: number): number {
  return blockSize === 0 ? 0 : Math.max(512, blockSize);
}

function bytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new SnapshotError('its header is damaged', 'damaged');
  return Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}
