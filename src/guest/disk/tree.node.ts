/**
 * A root file system that is built in a folder. Owners are recorded separately, because only root
 * may change the owner of a file. Symbolic links in a path (/bin → /usr/bin) are resolved within
 * the tree.
 */
import { chmod, link, lstat, mkdir, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from '../../base/errors.js';
import type { TarEntry } from '../archive/tar.js';

/** Numeric user and group. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const root: Owner = { uid: 0, gid: 0 };

export class RootTree {
  /** The folder that holds the tree. */
  readonly folder: string;
  /** Owner of every path, without a leading slash. */
  readonly owners = new Map<string, Owner>([['', root]]);
  /** Cache of resolved folders, without symbolic links. */
  readonly #places = new Map<string, string>([['', '']]);

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Writes an entry of a package. It replaces an existing file; an existing folder stays. */
  async put(entry: TarEntry): Promise<void> {
    if (entry.path === '') return;
    const path = join(await this.#placeOf(dirnameOf(entry.path)), basenameOf(entry.path));
    const file = join(this.folder, path);
    const there = await statOf(file);
    if (entry.type === 'directory') {
      // /bin in a package is the link to /usr/bin in the tree.
      if (there?.isSymbolicLink()) return;
      if (!there) await mkdir(file);
      await chmod(file, entry.mode);
    } else {
      if (there) await rm(file);
      if (entry.type === 'symlink') await symlink(entry.target, file);
      else if (entry.type === 'link') await link(join(this.folder, await this.#within(entry.target)), file);
      else {
        await writeFile(file, entry.data);
        await chmod(file, entry.mode);
        await utimes(file, entry.mtime, entry.mtime);
      }
    }
    this.owners.set(path, entry);
  }

  /** Writes a file that is not from a package. */
  async write(path: string, data: Uint8Array | string, mode = 0o644, owner: Owner = root): Promise<void> {
    await this.directory(dirnameOf(path));
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    await this.put({ path, type: 'file', mode, ...owner, mtime: 0, data: bytes, target: '' });
  }

  async link(path: string, target: string): Promise<void> {
    await this.directory(dirnameOf(path));
    await this.put({ path, type: 'symlink', mode: 0o777, ...root, mtime: 0, data: new Uint8Array(0), target });
  }

  /**
   * Makes a folder and its parents if they do not exist. If `mode` is given, an existing folder
   * gets it too.
   */
  async directory(path: string, mode?: number, owner: Owner = root): Promise<void> {
    if (path === '') return;
    await this.directory(dirnameOf(path));
    const place = await this.#within(path);
    const there = await statOf(join(this.folder, place));
    if (there && mode === undefined) return;
    const entry = { path, type: 'directory', ...owner, mtime: 0, data: new Uint8Array(0), target: '' } as const;
    await this.put({ ...entry, mode: mode ?? 0o755 });
  }

  /** Path on this computer of a file in the tree. */
  async locate(path: string): Promise<string> {
    return join(this.folder, await this.#within(path));
  }

  async #within(path: string): Promise<string> {
    return join(await this.#placeOf(dirnameOf(path)), basenameOf(path));
  }

  /**
   * Resolves all symbolic links of a folder. Links cannot lead out of the tree: "/" and ".." stop
   * at its root.
   */
  async #placeOf(folder: string, depth = 0): Promise<string> {
    const known = this.#places.get(folder);
    if (known !== undefined) return known;
    if (depth > 40) throw new RangeError(`links of ${folder} go round in a circle`);
    const above = await this.#placeOf(dirnameOf(folder), depth + 1);
    const path = join(above, basenameOf(folder));
    const there = await statOf(join(this.folder, path));
    let place = path;
    if (there?.isSymbolicLink()) {
      const target = await readlink(join(this.folder, path));
      const joined = target.startsWith('/') ? target : join('/', above, target);
      place = await this.#placeOf(join('/', joined).slice(1).replace(/\/$/, ''), depth + 1);
    }
    if (there) this.#places.set(folder, place);
    return place;
  }
}

function dirnameOf(path: string): string {
  const folder = dirname(path);
  return folder === '.' ? '' : folder;
}

function basenameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

async function statOf(path: string): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
