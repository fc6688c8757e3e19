/**
 * The parts of the browser's origin private file system (OPFS, "File System" of WHATWG) that
 * Farbus uses: folders for disks, overlays and caches, and locks on them. The browser keeps these
 * files for the page's origin; no other program sees them. Only workers can write them in place.
 */
import { FarbusError, messageOf } from '../../base/errors.js';

/** A file that is open for reading and writing at once, without promises. */
export interface SyncFile {
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options: { at: number }): number;
  flush(): void;
  getSize(): number;
  close(): void;
}

/** The kinds of stores, each with a folder of its own. */
export type StoreKind = 'overlay' | 'cache' | 'disk';

const rootName = 'farbus';

/** A folder of the OPFS that no other tab can open meanwhile. */
export interface LockedFolder {
  readonly folder: FileSystemDirectoryHandle;
  /** Lets other tabs open it. */
  unlock(): void;
}

/**
 * Opens the folder of a store for this tab alone; it is made if it does not exist.
 * @throws FarbusError if this browser has no OPFS, or another tab uses the store
 */
export async function lockFolder(kind: StoreKind, name: string): Promise<LockedFolder> {
  return (await openLocked(kind, name, { create: true }))!;
}

/**
 * Opens the folder of a store for this tab alone. Undefined if there is none.
 * @throws FarbusError as {@link lockFolder}
 */
export function lockExistingFolder(kind: StoreKind, name: string): Promise<LockedFolder | undefined> {
  return openLocked(kind, name, { create: false });
}

async function openLocked(
  kind: StoreKind,
  name: string,
  options: { create: boolean },
): Promise<LockedFolder | undefined> {
  const id = folderName(kind, name);
  const unlock = await lock(`${rootName}/${id}`);
  if (!unlock) {
    throw new FarbusError(`the ${kind} ${name} is in use in another tab of this browser: close that tab first`);
  }
  try {
    const folder = await (await rootFolder()).getDirectoryHandle(id, options);
    return { folder, unlock };
  } catch (error) {
    unlock();
    if (isNotFound(error)) return undefined;
    throw storageError(error);
  }
}

/** Names of the stores of a kind. */
export async function storeNames(kind: StoreKind): Promise<string[]> {
  const prefix = `${kind}-`;
  const names: string[] = [];
  for await (const name of (await rootFolder()).keys()) {
    if (name.startsWith(prefix)) names.push(decodeURIComponent(name.slice(prefix.length)));
  }
  return names.sort();
}

/**
 * Deletes a store with its content. No error if there is none.
 * @throws FarbusError if a tab uses it
 */
export async function removeStore(kind: StoreKind, name: string): Promise<void> {
  const locked = await lockExistingFolder(kind, name);
  if (!locked) return;
  try {
    // First what makes it a store of its kind, the label of a disk or the header: if the removal is
    // cut short, the rest must not be taken for a whole one.
    for (const entry of await entriesOf(locked.folder)) {
      if (entry === '0' || !/^\d+$/.test(entry)) await locked.folder.removeEntry(entry);
    }
    await (await rootFolder()).removeEntry(folderName(kind, name), { recursive: true });
  } finally {
    locked.unlock();
  }
}

/** The room of a page's origin in the browser. */
export interface StorageSpace {
  /** Bytes that it uses. */
  readonly used: number;
  /** Bytes that the browser would still give it. */
  readonly free: number;
}

/** The room of this page's origin. */
export async function storageSpace(): Promise<StorageSpace> {
  const { usage = 0, quota = 0 } = await storageManager().estimate();
  return { used: usage, free: Math.max(0, quota - usage) };
}

/** Names of the files of a store. */
export async function entriesOf(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const names: string[] = [];
  for await (const name of (folder as IterableFolder).keys()) names.push(name);
  return names;
}

function folderName(kind: StoreKind, name: string): string {
  if (name === '' || name.length > 100) throw new FarbusError(`the name of the ${kind} must have 1 to 100 characters`);
  return `${kind}-${encodeURIComponent(name)}`;
}

function storageManager(): StorageManager {
  const { storage } = navigator as { storage?: StorageManager };
  if (typeof storage?.getDirectory === 'function' && 'locks' in navigator) return storage;
  throw new FarbusError(
    'this browser has no private file system for pages (OPFS), or this page is not secure: use https or another ' +
      'browser, or start without an overlay and without a cache',
  );
}

/**
 * The folder of a store as it is now, without a lock. Undefined if there is none.
 * @throws FarbusError if this browser has no OPFS
 */
export async function folderOf(kind: StoreKind, name: string): Promise<IterableFolder | undefined> {
  const root = await rootFolder();
  try {
    return (await root.getDirectoryHandle(folderName(kind, name))) as IterableFolder;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw storageError(error);
  }
}

/** True if a folder or file does not exist. */
export function isNotFound(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'NotFoundError';
}

async function rootFolder(): Promise<IterableFolder> {
  try {
    const all = await storageManager().getDirectory();
    return (await all.getDirectoryHandle(rootName, { create: true })) as IterableFolder;
  } catch (error) {
    throw storageError(error);
  }
}

/** TypeScript's description of a folder lacks its iterators in the library of pages. */
export interface IterableFolder extends FileSystemDirectoryHandle {
  keys(): AsyncIterableIterator<string>;
}

function storageError(error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  return new FarbusError(
    `this browser does not let the page store files (${messageOf(error)}): leave private browsing, allow site data, ` +
      'or start without an overlay and without a cache',
    { cause: error },
  );
}

/** Takes a lock among all tabs of the origin. Undefined if another tab has it. */
function lock(name: string): Promise<(() => void) | undefined> {
  storageManager();
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (taken) => {
        if (!taken) return resolve(undefined);
        return new Promise<void>((release) => resolve(release));
      })
      .catch(reject);
  });
}
