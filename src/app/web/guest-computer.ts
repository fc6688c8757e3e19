/**
 * The computer that browser tabs continue from: a Debian that has just booted, with empty ports for
 * disks, which a tab attaches its far disks to.
 */
import { join } from 'node:path';
import type { Logger } from '../../base/log.js';
import { cacheFolder } from '../../guest/cache.node.js';
import { snapshotVersion } from '../../machine/snapshot.js';
import { chooseGuest, createComputer, snapshotKey, startGuest, type Guest } from '../computer/start.js';

/** Its memory in bytes. A snapshot of less memory is a shorter download. */
export const tabMemory = 128 << 20;
/** Number of its ports for disks. */
export const tabPorts = 4;

/** The system that it runs. */
export function tabGuest(log: Logger, signal?: AbortSignal): Promise<Guest> {
  return chooseGuest({ ahci: true, log, signal });
}

/**
 * Identifies the file of its snapshot: the computer, and the version of the format. Without the
 * version, a tab of a newer Farbus would get a file of an older one from the cache of the server or
 * of the browser, and could not read it.
 */
export function tabSnapshotKey(guest: Guest): string {
  return `${snapshotKey(guest, tabMemory).slice(0, 32)}-${snapshotVersion}`;
}

/** Where its snapshot is kept. */
export function tabSnapshotFile(guest: Guest): string {
  return join(cacheFolder(), 'web', `${tabSnapshotKey(guest)}.snapshot`);
}

/** Boots it and writes its snapshot to a file, in this thread, which takes a while. */
export async function makeTabSnapshot(path: string, log: Logger): Promise<void> {
  const guest = await tabGuest(log);
  const ports = Array.from({ length: tabPorts }, () => ({ device: undefined, bus: 'ahci' }) as const);
  const computer = await createComputer(ports, tabMemory, { log });
  try {
    await startGuest(computer, guest, path, tabMemory, { renew: true, log });
  } finally {
    await computer.stop();
  }
}
