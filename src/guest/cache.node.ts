/**
 * The cache folder: files that can be obtained again, kept so that a second run needs neither the
 * network nor the time.
 *
 * Specification: the XDG Base Directory Specification for its place. Several processes may use it
 * at once: a file or folder gets its final name only when it is complete. Its contents are not
 * trusted: every file that is read is verified with a SHA-256. It may be deleted at any time;
 * `farbus cache clean` keeps the entries that a running process uses (cache-use.node.ts).
 *
 * Left out: a limit of its size.
 */
import { createHash } from 'node:crypto';
import { open, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { releasable } from '../base/releasable.js';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { replaceFile, replaceMark } from '../base/files.node.js';
import { makeFolders } from '../base/folders.node.js';
import { ownedName, removeOrphans } from '../base/owned.node.js';
import { announceUse, markUsed } from './cache-use.node.js';

/**
 * The cache folder of this program: `farbus` in $XDG_CACHE_HOME, or in ~/.cache if that is not set.
 */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const set = environment['XDG_CACHE_HOME'];
  // The specification says to ignore a relative path.
  const base = set !== undefined && isAbsolute(set) ? set : join(environment['HOME'] || homedir(), '.cache');
  return join(base, 'farbus');
}

/** SHA-256 of the concatenated parts, as lower-case hexadecimal digits. */
export function sha256(...parts: readonly (Uint8Array | string)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

export const temporaryMark = '.tmp-';

/** A unique name beside `path`, on the same file system so that a rename is atomic. */
export function temporaryName(path: string): string {
  return ownedName(`${path}${temporaryMark}`);
}

/** Makes `folder` and its parents, and removes temporary files that interrupted runs left in it. */
export async function prepareFolder(folder: string): Promise<void> {
  await inCache(folder, async () => {
    makeFolders(folder);
    await announceUse(dirname(folder));
    await removeOrphans(folder, replaceMark);
    await removeOrphans(folder, temporaryMark, { before: /^\d+-[0-9a-f]{12}$/ });
  });
}

/** Replaces the file `path` atomically. */
export async function replaceInCache(path: string, data: Uint8Array | string): Promise<void> {
  await inCache(path, () => replaceFile(path, [data], { mode: 0o666, makesFolder: true }));
}

/**
 * Makes the folder `path`: `fill` fills a temporary folder, which is then renamed. If another
 * process was faster, its folder is kept, because equal names mean equal contents.
 */
export async function makeFolder(path: string, fill: (folder: string) => Promise<void>): Promise<void> {
  await prepareFolder(dirname(path));
  const temporary = temporaryName(path);
  try {
    await inCache(path, () => mkdir(temporary));
    await fill(temporary);
    await inCache(path, () => rename(temporary, path).catch(ignoreTaken));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function ignoreTaken(error: unknown): void {
  if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error;
}

const manifestName = 'SHA256SUMS';

/**
 * The files `names` of the cache folder `path`. If one is missing or damaged, `make` makes all of
 * them again. `path` must identify all inputs of the files.
 */
export async function cachedFiles<Name extends string>(
  path: string,
  names: readonly Name[],
  make: () => Promise<Record<Name, Uint8Array>>,
): Promise<Record<Name, Uint8Array>> {
  const there = await readCachedFiles(path, names);
  if (there !== undefined) return there;
  const made = await make();
  await rm(path, { recursive: true, force: true });
  await makeFolder(path, async (folder) => {
    const lines = names.map((name) => `${sha256(made[name])}  ${name}\n`);
    await inCache(path, async () => {
      for (const name of names) await writeFile(join(folder, name), made[name]);
      await writeFile(join(folder, manifestName), lines.join(''));
    });
  });
  return made;
}

/** The files `names` of the cache folder `path`; undefined unless all are there and undamaged. */
export async function readCachedFiles<Name extends string>(
  path: string,
  names: readonly Name[],
): Promise<Record<Name, Uint8Array> | undefined> {
  try {
    await markUsed(path);
    const manifest = await readFile(join(path, manifestName), 'utf8');
    const sums = new Map(manifest.split('\n').map((line) => [line.slice(66), line.slice(0, 64)]));
    const files: Partial<Record<Name, Uint8Array>> = {};
    for (const name of names) {
      const data = await readReleasable(join(path, name));
      if (sha256(data) !== sums.get(name)) return undefined;
      files[name] = data;
    }
    return files as Record<Name, Uint8Array>;
  } catch {
    return undefined;
  }
}

async function readReleasable(path: string): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const data = releasable((await file.stat()).size);
    let done = 0;
    while (done < data.length) {
      const { bytesRead } = await file.read(data, done, data.length - done, done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return data;
  } finally {
    await file.close();
  }
}

/** Runs a change of the cache. Turns a system error into one line with the folder and advice. */
export async function inCache<T>(path: string, change: () => Promise<T>): Promise<T> {
  try {
    return await change();
  } catch (error) {
    if (error instanceof FarbusError || errnoOf(error) === undefined) throw error;
    const advice =
      errnoOf(error) === 'ENOSPC'
        ? 'make room there, or set XDG_CACHE_HOME to a folder on another disk'
        : 'set XDG_CACHE_HOME to a folder that you may write to';
    throw new FarbusError(`cannot write to the cache (${messageOf(error)}) at ${path}: ${advice}`, { cause: error });
  }
}
