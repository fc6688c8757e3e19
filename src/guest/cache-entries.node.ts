/**
 * The entries of the cache folder by kind, their sizes and last uses, and their removal.
 *
 * Safe while other processes use the cache: entries that these have used since they began are kept,
 * and an entry is first renamed, so that no process sees a part of it. Files that Farbus does not
 * know are neither counted nor removed.
 */
import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, failed } from '../base/errors.js';
import { replaceMark } from '../base/files.node.js';
import { removeOrphans } from '../base/owned.node.js';
import { temporaryMark, temporaryName } from './cache.node.js';
import { usedSince } from './cache-use.node.js';

export interface CacheKind {
  readonly name: string;
  /** Completes "NAME: ". */
  readonly about: string;
  /** Matches the entries in the cache folder itself. Absent: the entries of the folder `name`. */
  readonly entries?: RegExp;
}

export const cacheKinds: readonly CacheKind[] = [
  { name: 'packages', about: 'packages of Debian, as they were fetched' },
  { name: 'unpacked', about: 'parts of these packages' },
  { name: 'suites', about: "Debian's lists of packages" },
  { name: 'choices', about: 'packages that --with needs' },
  { name: 'kernel', about: 'kernels of guests' },
  { name: 'initramfs', about: 'first file systems of guests' },
  { name: 'guest-disk', about: 'disks of farbus guest-disk' },
  { name: 'snapshots', about: 'computers of farbus demo', entries: /^[\w-]+\.snapshot$/ },
  { name: 'web', about: 'computers of browser tabs' },
  { name: 'images', about: 'disks of farbus demo --keep', entries: /^images-[0-9a-f]+$/ },
];

export interface CacheEntry {
  readonly kind: CacheKind;
  readonly path: string;
  /** Bytes on the disk: holes do not count. */
  readonly bytes: number;
  /** In ms since 1970. */
  readonly lastUse: number;
}

/** All entries of a cache folder, in the order of {@link cacheKinds}. */
export async function cacheEntries(cacheDir: string): Promise<CacheEntry[]> {
  const found: CacheEntry[] = [];
  for (const kind of cacheKinds) {
    const folder = folderOf(cacheDir, kind);
    for (const name of (await namesIn(folder)).sort()) {
      if (kind.entries ? !kind.entries.test(name) : isTemporary(name)) continue;
      const path = join(folder, name);
      const stat = await lstat(path).catch(() => undefined);
      if (stat) found.push({ kind, path, bytes: await bytesBelow(path), lastUse: stat.mtimeMs });
    }
  }
  return found;
}

function folderOf(cacheDir: string, { name, entries }: CacheKind): string {
  return entries ? cacheDir : join(cacheDir, name);
}

function isTemporary(name: string): boolean {
  return name.includes(temporaryMark) || name.includes(replaceMark);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw failed(`cannot read the cache at ${folder}`, error);
  }
}

/** The bytes of a file, or of everything in a folder. What vanishes meanwhile counts nothing. */
async function bytesBelow(path: string): Promise<number> {
  const stat = await lstat(path).catch(() => undefined);
  if (!stat) return 0;
  // Node gives no blocks on some systems. A block has 512 bytes (stat(2)).
  let bytes = stat.blocks ? stat.blocks * 512 : stat.size;
  if (stat.isDirectory()) {
    for (const name of await readdir(path).catch(() => [])) bytes += await bytesBelow(join(path, name));
  }
  return bytes;
}

export interface CleanPlan {
  readonly remove: readonly CacheEntry[];
  /** Entries that would be removed if no running process had used them. */
  readonly inUse: readonly CacheEntry[];
}

/** Some file systems keep times in steps of 2 s, so a use may look so much older than it is. */
const timeStepMs = 2000;

/** Chooses the entries to remove: those that were last used before `before` (ms since 1970). */
export async function planClean(cacheDir: string, before: number): Promise<CleanPlan> {
  const since = ((await usedSince(cacheDir)) ?? Infinity) - timeStepMs;
  const old = (await cacheEntries(cacheDir)).filter(({ lastUse }) => lastUse <= before);
  return {
    remove: old.filter(({ lastUse }) => lastUse < since),
    inUse: old.filter(({ lastUse }) => lastUse >= since),
  };
}

/**
 * Removes entries, and temporary files of processes that no longer run. Returns the entries that
 * were removed: all but those that another process has begun to use since the plan was made.
 */
export async function removeEntries(cacheDir: string, entries: readonly CacheEntry[]): Promise<CacheEntry[]> {
  const removed: CacheEntry[] = [];
  for (const entry of entries) {
    if (await remove(entry)) removed.push(entry);
  }
  await removeOrphans(cacheDir, 'demo-');
  for (const kind of cacheKinds) {
    await removeOrphans(folderOf(cacheDir, kind), temporaryMark);
    await removeOrphans(folderOf(cacheDir, kind), replaceMark);
  }
  return removed;
}

async function remove({ path, lastUse }: CacheEntry): Promise<boolean> {
  const temporary = temporaryName(path);
  try {
    if ((await lstat(path)).mtimeMs !== lastUse) return false;
    await rename(path, temporary);
    // A process may have marked the entry between the two calls.
    if ((await lstat(temporary)).mtimeMs !== lastUse) {
      await rename(temporary, path).catch(() => rm(temporary, { recursive: true, force: true }));
      return false;
    }
    await rm(temporary, { recursive: true, force: true });
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw failed(`cannot remove ${path} from the cache`, error);
  }
}
