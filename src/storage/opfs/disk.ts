/**
 * Disks in the browser's OPFS: writable disks of their own, without another disk below. A disk is a
 * store (store.ts) whose folder also has its label: an empty file with the disk's length and a
 * random identity in its name. An empty file is made as a whole or not at all.
 *
 * The identity makes a disk recognisable when the tab that lends it is opened again.
 *
 * Not here: removal (`removeStore` in files.ts).
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import {
  entriesOf,
  folderOf,
  lockExistingFolder,
  lockFolder,
  storeNames,
  type IterableFolder,
  type LockedFolder,
} from './files.js';
import { OpfsStore, partSize } from './store.js';

/** A disk in the browser's OPFS, as it is listed. */
export interface OpfsDisk {
  /** Its name. */
  readonly name: string;
  /** Its length in bytes. */
  readonly size: number;
}

interface Label extends OpfsDisk {
  readonly id: string;
}

const labelPattern = /^disk-(\d{1,16})-([0-9a-f]{32})$/;
/** Longest disk, in bytes: its empty ranges take no room, and lists of its files stay short. */
const longest = 2 ** 40;

/**
 * Makes a disk that reads as zeroes. It takes room only where it is written.
 * @param size its length in bytes: a multiple of 512, at most 1 TiB
 * @throws FarbusError if there is a disk of this name, the length is wrong, or this browser has no
 *   OPFS
 *
 * @example Lends a new disk of this browser
 * ```ts
 * import { createOpfsDisk, lendOpfsDisk } from 'farbus/browser';
 *
 * await createOpfsDisk('mine', 1 << 30);
 * const server = 'http://127.0.0.1:8080';
 * const lending = await lendOpfsDisk('mine', { server, name: 'mine', token: 'TOKEN' });
 * // Later:
 * await lending.stop();
 * ```
 */
export async function createOpfsDisk(name: string, size: number): Promise<void> {
  if (!Number.isSafeInteger(size) || size < 512 || size % 512 !== 0 || size > longest) {
    throw new FarbusError('the size of a disk must be a multiple of 512 bytes, from 512 bytes to 1 TiB');
  }
  const { folder, unlock } = await lockFolder('disk', name);
  try {
    if (await labelIn(folder as IterableFolder, name)) {
      throw new FarbusError(`there is a disk ${name} in this browser already: choose another name`);
    }
    // Without a label, these are left of a disk whose removal was cut short.
    for (const entry of await entriesOf(folder)) await folder.removeEntry(entry);
    const id = crypto.randomUUID().replaceAll('-', '');
    await folder.getFileHandle(`disk-${size}-${id}`, { create: true });
  } catch (error) {
    if (error instanceof FarbusError) throw error;
    throw new FarbusError(`this browser does not make the disk ${name}: ${messageOf(error)}`, { cause: error });
  } finally {
    unlock();
  }
}

/**
 * Opens a disk for this tab alone, to read and write it. Only in a worker.
 * @throws FarbusError if there is none of this name, another tab uses it, or this browser has no
 *   OPFS
 */
export async function openOpfsDisk(name: string): Promise<OpfsStore> {
  const { locked, label } = await lockDisk(name);
  const own = { identity: `browser:${name}`, marks: { layer: `opfs-${label.id}` } };
  return OpfsStore.inFolder(locked, 'disk', label.size, 512, own);
}

/**
 * The disks in this page's OPFS.
 * @throws FarbusError if this browser has none
 */
export async function opfsDisks(): Promise<OpfsDisk[]> {
  const disks: OpfsDisk[] = [];
  for (const name of await storeNames('disk')) {
    const folder = await folderOf('disk', name);
    const label = folder && (await labelIn(folder, name));
    if (label) disks.push({ name, size: label.size });
  }
  return disks;
}

/**
 * The content of a disk as a Blob, which the browser reads from its files while it is used: a
 * download needs no memory for it. If the disk is written meanwhile, the browser refuses to read
 * the rest; it notices changes by the date in whole seconds.
 * @throws FarbusError if there is no disk of this name, a tab uses it, or this browser has no OPFS
 */
export async function opfsDiskContent(name: string): Promise<Blob> {
  const { locked, label } = await lockDisk(name);
  const { folder, unlock } = locked;
  const { size } = label;
  try {
    const empty = new Blob([new Uint8Array(partSize)]);
    const files = new Map<number, File>();
    for await (const entry of (folder as IterableFolder).keys()) {
      if (/^\d+$/.test(entry)) files.set(Number(entry), await (await folder.getFileHandle(entry)).getFile());
    }
    const content: Blob[] = [];
    for (let number = 0; number * partSize < size; number++) {
      const length = Math.min(partSize, size - number * partSize);
      const file = files.get(number)?.slice(0, length);
      if (file) content.push(file);
      // Behind the bytes that were written there are zeroes, and where there is no file.
      content.push(empty.slice(0, length - (file?.size ?? 0)));
    }
    return new Blob(content);
  } finally {
    unlock();
  }
}

/** Opens the folder of a disk for this tab alone. No other tab changes its label meanwhile. */
async function lockDisk(name: string): Promise<{ locked: LockedFolder; label: Label }> {
  const locked = await lockExistingFolder('disk', name);
  if (!locked) throw noDisk(name);
  try {
    const label = await labelIn(locked.folder as IterableFolder, name);
    if (label) return { locked, label };
    throw noDisk(name);
  } catch (error) {
    locked.unlock();
    throw error;
  }
}

async function labelIn(folder: IterableFolder, name: string): Promise<Label | undefined> {
  for await (const entry of folder.keys()) {
    const [, size, id] = labelPattern.exec(entry) ?? [];
    if (id !== undefined) return { name, size: Number(size), id };
  }
  return undefined;
}

function noDisk(name: string): FarbusError {
  return new FarbusError(`there is no disk ${name} in this browser: make it first`);
}
