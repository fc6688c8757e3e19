/**
 * Unpacks parts of Debian packages into the cache folder. It unpacks only the requested parts: a
 * kernel package has some 180 MB of modules, of which a guest needs a few.
 *
 * Left out: owners, times, and the bits setuid, setgid and sticky.
 */
import { chmod, link, mkdir, open, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FarbusError } from '../base/errors.js';
import { readDeb } from './archive/deb.node.js';
import type { TarEntry } from './archive/tar.js';
import { cacheFolder, inCache, makeFolder, sha256 } from './cache.node.js';
import { markUsed } from './cache-use.node.js';
import type { FetchedPackage } from './fetch.node.js';

export interface UnpackOptions {
  /** Default: {@link cacheFolder}. */
  readonly cacheDir?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Patterns of files to leave out, in the syntax of the parts. */
  readonly without?: readonly string[];
}

/**
 * The folder with the parts of a package. Unpacks them if they are not in the cache.
 * @param parts Paths with "*" for any characters, also "/": "./boot/vmlinuz-*"; "." is all. A
 * folder stands for everything in it. A pattern that matches nothing is an error.
 * @throws FarbusError if a part is missing, or the package is damaged
 */
export async function unpackPackage(
  fetched: FetchedPackage,
  parts: readonly string[],
  options: UnpackOptions = {},
): Promise<string> {
  const { without = [], signal } = options;
  const choice = without.length === 0 ? parts : { parts, without };
  const key = `${fetched.sha256.slice(0, 16)}-${sha256(JSON.stringify(choice)).slice(0, 8)}`;
  const folder = join(options.cacheDir ?? cacheFolder(), 'unpacked', key);
  await markUsed(folder);
  if (await isFolder(folder)) return folder;
  await makeFolder(folder, async (temporary) => {
    const wanted = parts.map(matcher);
    const unwanted = without.map(matcher);
    const found = new Set<number>();
    const isWanted = (path: string): boolean => {
      if (unwanted.some((matches) => matches(path))) return false;
      const matching = wanted.flatMap((matches, index) => (matches(path) ? [index] : []));
      matching.forEach((index) => found.add(index));
      return matching.length > 0;
    };
    const writer = new FolderWriter(temporary);
    for await (const entry of readDeb(fetched.file, 'data', { wanted: isWanted, signal })) {
      if (isWanted(entry.path)) await inCache(folder, () => writer.put(entry));
    }
    await inCache(folder, () => writer.finish());
    const missing = parts.find((_, index) => !found.has(index));
    if (missing !== undefined) throw new FarbusError(`the package ${fetched.package} has no ${missing}`);
    await syncFiles(temporary);
  });
  return folder;
}

/** A function that tells if a path, or a folder above it, matches a pattern. */
function matcher(pattern: string): (path: string) => boolean {
  const path = pattern.replace(/^\.\/?/, '');
  if (path === '') return () => true;
  const literals = path.split('*').map((part) => part.replace(/[^A-Za-z0-9/_-]/g, '\\$&'));
  const expression = new RegExp(`^${literals.join('.*')}(/|$)`, 's');
  return (one) => expression.test(one);
}

/** Writes entries below a folder. */
class FolderWriter {
  readonly #folder: string;
  readonly #links: Pick<TarEntry, 'path' | 'target'>[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  async put({ path, type, mode, data, target }: TarEntry): Promise<void> {
    const place = join(this.#folder, path);
    const folder = type === 'directory' ? place : dirname(place);
    await mkdir(folder, { recursive: true });
    if (type === 'directory' && path !== '') await chmod(place, (mode & 0o777) | 0o700);
    if (type === 'file') {
      await writeFile(place, data);
      await chmod(place, mode & 0o777);
    }
    if (type === 'link') await link(join(this.#folder, target), place);
    // Made at the end, so that no later entry is written through one.
    if (type === 'symlink') this.#links.push({ path, target });
  }

  async finish(): Promise<void> {
    for (const { path, target } of this.#links) await symlink(target, join(this.#folder, path));
  }
}

/** The sorted paths of all files below `folder`, relative to it. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

/**
 * Makes the files durable. Nothing checks them later, so a power cut must not leave empty ones
 * under the final name.
 */
async function syncFiles(folder: string): Promise<void> {
  for (const name of await filesBelow(folder)) {
    const file = await open(join(folder, name));
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
