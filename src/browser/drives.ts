/** Opens the drives of a computer in a tab: far disks, with an overlay in this browser. */
import type { Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import { identifyDisk } from '../probe/disk-identity.js';
import type { RemoteState } from '../protocol/remote/reconnection.js';
import { openOpfsOverlay } from '../storage/opfs/overlay.js';
import { connectExport, type ExportAddress } from './export.js';

/** A drive of a computer in a tab: a far disk. */
export interface TabDrive extends ExportAddress {
  /** The disk is never written. Default: false. */
  readonly readOnly?: boolean | undefined;
  /**
   * Name of an overlay in this browser, which is made if it does not exist: writes stay there, and
   * the far disk is unchanged. Default: writes go to the far disk.
   */
  readonly overlay?: string | undefined;
  /** How long the guest's requests wait for a lost server, in seconds. Default 60. */
  readonly reconnectSeconds?: number | undefined;
}

/** The surroundings of a drive that is opened. */
export interface DriveContext {
  readonly log: Logger;
  readonly steps: Steps;
  /** Called at every change of the connection. */
  readonly onState: (state: RemoteState, detail: string) => void;
}

/** Opens a drive. Rejects with a FarbusError. */
export async function openTabDrive(drive: TabDrive, { log, steps, onState }: DriveContext): Promise<BlockDevice> {
  const { readOnly = false, overlay, reconnectSeconds } = drive;
  const far = await connectExport(drive, {
    readOnly: readOnly || overlay !== undefined,
    reconnectSeconds,
    log,
    steps,
    onState,
  });
  if (overlay === undefined) return far;
  try {
    return await openOpfsOverlay(far, overlay, { identity: await identifyDisk(far) });
  } catch (error) {
    await far.close();
    throw error;
  }
}
