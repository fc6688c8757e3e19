/**
 * Opens the drives of a computer in a tab: far disks, with a cache and an overlay in this browser.
 */
import { crc32 } from '../base/crc32.js';
import { FarbusError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Steps } from '../base/steps.js';
import type { BlockDevice } from '../block/device.js';
import { ReadAheadFilter } from '../block/filters/readahead.js';
import { identifyDisk } from '../probe/disk-identity.js';
import type { RemoteState } from '../protocol/remote/reconnection.js';
import { openOpfsCache } from '../storage/opfs/cache.js';
import { openOpfsOverlay } from '../storage/opfs/overlay.js';
import { connectExport, exportVersion, type ExportAddress } from './export.js';

/** A drive of a computer in a tab: a far disk. */
export interface TabDrive extends ExportAddress {
  /** The disk is never written. Default: false. */
  readonly readOnly?: boolean | undefined;
  /**
   * Name of an overlay in this browser, which is made if it does not exist: writes stay there, and
   * the far disk is unchanged. Default: writes go to the far disk.
   */
  readonly overlay?: string | undefined;
  /**
   * Blocks that were read are kept in this browser, also for the next visit, and are used as long
   * as the server confirms that the disk is unchanged. Without OPFS, room or a confirmation the
   * disk is read without a cache. Only for a drive that is read-only or has an overlay. Default:
   * false.
   */
  readonly cache?: boolean | undefined;
  /**
   * Reads ahead of sequential readers. False: for a disk that another computer writes, as data that
   * was read ahead can be up to 10 s old. Default: true.
   */
  readonly readAhead?: boolean | undefined;
  /** How long the guest's requests wait for a lost server, in seconds. Default 60. */
  readonly reconnectSeconds?: number | undefined;
}

/** The surroundings of a drive that is opened. */
export interface DriveContext {
  readonly log: Logger;
  readonly steps: Steps;
  /** Called at every change of the connection. */
  readonly onState: (state: RemoteState, detail: string) => void;
  /** Called when the cache of the drive does not work or stops, with a sentence for people. */
  readonly onCache: (trouble: string) => void;
}

/** Opens a drive. Rejects with a FarbusError. */
export async function openTabDrive(drive: TabDrive, context: DriveContext): Promise<BlockDevice> {
  const { readOnly = false, overlay, cache = false, readAhead = true, reconnectSeconds } = drive;
  const { log, steps, onState } = context;
  const unwritten = readOnly || overlay !== undefined;
  if (cache && !unwritten) throw new FarbusError('a cache is for drives that are read-only or have an overlay');
  const version = (): Promise<string | undefined> => exportVersion(drive);
  // Before the connection: an export that is replaced goes on for its connections, so a version
  // of later could be that of another disk.
  const since = cache ? ((await version().catch(() => undefined)) ?? '') : undefined;
  const far = await connectExport(drive, { readOnly: unwritten, reconnectSeconds, log, steps, onState });
  let opened: BlockDevice = far;
  try {
    const ahead = (device: BlockDevice): BlockDevice => (readAhead ? new ReadAheadFilter(device) : device);
    if (!unwritten || (!cache && overlay === undefined)) return ahead(far);
    const identity = await identifyDisk(far);
    if (cache) {
      const { onCache } = context;
      const without = (why: string): void => onCache(`The far disk is read without a cache: ${why}.`);
      const onStop = (why: string): void => onCache(`The cache of the far disk keeps no more: ${why}.`);
      const options = { version, since, identity, onStop };
      opened = await openOpfsCache(far, cacheName(drive), options).catch((error: unknown) => {
        without(messageOf(error));
        return far;
      });
    }
    opened = ahead(opened);
    return overlay === undefined ? opened : await openOpfsOverlay(opened, overlay, { identity });
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Longest name of a cache that is the address itself. */
const longestName = 70;

/** The name of a disk's cache: its address, which is cut if it is too long for a name. */
function cacheName({ url, name = '' }: TabDrive): string {
  const { host, pathname } = new URL(url);
  const whole = `${host}${pathname}${name === '' ? '' : ` ${name}`}`;
  if (whole.length <= longestName) return whole;
  return `${whole.slice(0, longestName)}~${crc32(new TextEncoder().encode(whole)).toString(16)}`;
}
