/**
 * The snapshot file of a computer that the command line starts. Either the computer continues from
 * the file, or it boots and saves the file again, or the command is refused.
 *
 * The file that a start saves holds a computer that has just booted. So a damaged snapshot is
 * replaced, with a warning. A file that is no snapshot may be the user's data and stays. A snapshot
 * of another computer or disk is refused, because it may still be needed there. One whose disk was
 * written since is refused, because its guest would damage the disk.
 */
import { errnoOf, FarbusError, messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { Computer } from '../../computer/computer.js';
import type { SaveOptions } from '../../computer/options.js';
import { readSnapshot, writeSnapshot } from '../../machine/snapshot-file.node.js';
import { SnapshotError, type Snapshot, type SnapshotFault } from '../../machine/snapshot.js';

export interface SnapshotFile {
  readonly path: string;
  /** Identifies the computer that the snapshot must belong to. */
  readonly key: string;
  /** Also replace a snapshot of another computer or other drives, or whose drives were written. */
  readonly renew: boolean;
  /** Go on even if a disk was written since. */
  readonly evenIfWritten: boolean;
  readonly log: Logger;
}

/**
 * Starts the computer from the file.
 * @returns false if the computer must boot because there is no usable snapshot
 * @throws FarbusError if the file is no snapshot, or one of another computer or disk
 */
export async function goOnFrom(computer: Computer, file: SnapshotFile): Promise<boolean> {
  const { path, key, renew, evenIfWritten, log } = file;
  try {
    const snapshot = await readIfThere(path);
    if (!snapshot) return false;
    await computer.restore(snapshot, key, { evenIfWritten });
    return true;
  } catch (error) {
    const fault = error instanceof SnapshotError ? error.fault : undefined;
    if (fault === 'damaged' || (renew && (fault === 'other' || fault === 'written'))) {
      log.log(
        'warn',
        `${path}: the snapshot cannot be used: ${messageOf(error)}; the guest boots, and a new snapshot is saved`,
      );
      return false;
    }
    throw new FarbusError(`${path}: the snapshot cannot be used: ${messageOf(error)}; ${adviceFor(fault)}`);
  }
}

function adviceFor(fault: SnapshotFault | undefined): string {
  if (fault === 'foreign') return 'give another path';
  const boot = 'delete the file to boot and save a new one';
  return fault === 'written' ? `${boot}, or use farbus run --snapshot-force if it had not mounted them` : boot;
}

/**
 * Saves the computer.
 * @param options `unused`: its guest has mounted no drive yet; `signal`: gives up until its state
 *   is taken
 * @returns Bytes of the engine's state.
 * @throws FarbusError
 */
export async function saveTo(
  computer: Computer,
  { path, key }: Pick<SnapshotFile, 'path' | 'key'>,
  options: SaveOptions = {},
): Promise<number> {
  const state = await computer.save(key, options).catch((error: unknown) => {
    if (!(error instanceof SnapshotError)) throw error;
    throw new FarbusError(`${path}: no snapshot can be taken: ${error.message}`);
  });
  try {
    await writeSnapshot(path, state);
  } catch (error) {
    throw new FarbusError(`${path}: the snapshot cannot be written: ${messageOf(error)}`);
  }
  return state.engine.length;
}

async function readIfThere(path: string): Promise<Snapshot | undefined> {
  try {
    return await readSnapshot(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
