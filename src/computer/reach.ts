/**
 * Checks that a computer's remote devices answer, before a snapshot is taken and before one is
 * restored.
 */
import { buffersOf } from '../base/buffers.js';
import { Deadline } from '../base/deadline.js';
import { messageOf } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { SnapshotError } from '../machine/snapshot.js';

/** Time limit for each device, in ms. */
const reachMs = 10_000;

/**
 * Reads the first block of each device.
 * @param media In the order of the drives; undefined for empty drives.
 * @throws SnapshotError that names a drive that fails or does not answer in time
 */
export async function checkReach(media: readonly (BlockDevice | undefined)[], limitMs = reachMs): Promise<void> {
  await Promise.all(media.map((medium, index) => medium && checkOne(medium, index, limitMs)));
}

async function checkOne(medium: BlockDevice, index: number, limitMs: number): Promise<void> {
  const { blockSize, size } = medium.info;
  if (size < blockSize) return;
  const limit = new Deadline(limitMs);
  const late = new Promise<never>((_, reject) => {
    limit.signal.addEventListener('abort', () => reject(new Error(`no answer within ${limitMs / 1000} s`)));
  });
  try {
    await Promise.race([medium.read(0, buffersOf(new Uint8Array(blockSize)), { signal: limit.signal }), late]);
  } catch (error) {
    throw new SnapshotError(`the far device of drive ${index} does not answer: ${messageOf(error)}`);
  } finally {
    limit.end();
  }
}
