/**
 * The last use of the cache's entries, and the processes that use them, so that `farbus cache
 * clean` removes nothing that is needed.
 *
 * The last use is the entry's time of change, which is set at each use: many file systems keep no
 * time of access. A process that uses the cache has a file in the folder `users` until it ends; its
 * name contains the owner (base/owned.node.ts), so that a killed process does not count.
 */
import { rmSync } from 'node:fs';
import { lstat, mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ownedName, ownerOf, removeOrphans } from '../base/owned.node.js';

export const usersFolder = 'users';
const mark = 'user-';

/** Cache folders in which this process is announced. */
const announced = new Map<string, Promise<void>>();
/** The files that announce this process. */
const own = new Set<string>();
process.once('exit', () => own.forEach((file) => rmSync(file, { force: true })));

/** Announces this process as a user of a cache. If the cache is read-only, it does nothing. */
export function announceUse(cacheDir: string): Promise<void> {
  const before = announced.get(cacheDir);
  if (before) return before;
  const announcing = announce(cacheDir);
  announced.set(cacheDir, announcing);
  return announcing;
}

async function announce(cacheDir: string): Promise<void> {
  const folder = join(cacheDir, usersFolder);
  const file = ownedName(join(folder, mark));
  try {
    await mkdir(folder).catch(() => undefined);
    await removeOrphans(folder, mark);
    await writeFile(file, '');
    own.add(file);
  } catch {
    // There is no cache yet, or it is not ours to write. Try again when it is used next.
    announced.delete(cacheDir);
  }
}

/**
 * Records that this process uses an entry. Call it before looking for the entry: from then on it is
 * not removed. An entry that does not exist is no error.
 * @param cacheDir default: the folder above the entry's kind
 */
export async function markUsed(entry: string, cacheDir = dirname(dirname(entry))): Promise<void> {
  await announceUse(cacheDir);
  const now = new Date();
  await utimes(entry, now, now).catch(() => undefined);
}

/**
 * Since when other processes that still run use the cache, in ms since 1970; undefined if none
 * does.
 */
export async function usedSince(cacheDir: string): Promise<number | undefined> {
  const folder = join(cacheDir, usersFolder);
  await removeOrphans(folder, mark);
  let since: number | undefined;
  for (const name of await readdir(folder).catch(() => [])) {
    const owner = ownerOf(name.slice(mark.length));
    if (!owner || (owner.pid === process.pid && owner.state === 'lives')) continue;
    const { mtimeMs } = (await lstat(join(folder, name)).catch(() => undefined)) ?? {};
    if (mtimeMs !== undefined) since = Math.min(since ?? Infinity, mtimeMs);
  }
  return since;
}
