/**
 * A root file system as it grows in a folder: the files themselves, and beside them who owns them, as only root may give
 * files away. Symbolic links that a path goes through (/bin → /usr/bin) are the tree's own and followed within it.
 */
import { chmod, link, lstat, mkdir, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from '../../base/errors.js';
import type { TarEntry } from './tar.js';

/** Numbers of a user and a group. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const root: Owner = { uid: 0, gid: 0 };

export class RootTree {
  /** The folder that it is in. */
  readonly folder: string;
  /** Of every path, without a leading slash. */
  readonly owners = new Map<string, Owner>([['', root]]);
  /** Where a folder of the tree really is: links that lead elsewhere in it are followed once. */
  readonly #places = new Map<string, string>([['', '']]);

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Puts an entry of a package at its place; what is there already gives way, folders stay. */
  async put(entry: TarEntry): Promise<void> {
    if (entry.path === '') return;
    const path = join(await this.#placeOf(dirnameOf(entry.path)), basenameOf(entry.path));
    const file = join(this.folder, path);
    const there = await statOf(file);
    if (entry.type === 'directory') {
      // A package's /bin is the tree's link to /usr/bin.
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

  /** Writes a file of our own. */
  async write(path: string, data: Uint8Array | string, mode = 0o644, owner: Owner = root): Promise<void> {
    await this.directory(dirnameOf(path));
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    await this.put({ path, type: 'file', mode, ...owner, mtime: 0, data: bytes, target: '' });
  }

  async link(path: string, target: string): Promise<void> {
    await this.directory(dirnameOf(path));
    await this.put({ path, type: 'symlink', mode: 0o777, ...root, mtime: 0, data: new Uint8Array(0), target });
  }

  /** Makes a folder and those above it, where it is not there. Given a mode, it has that afterwards. */
  async directory(path: string, mode?: number, owner: Owner = root): Promise<void> {
    if (path === '') return;
    await this.directory(dirnameOf(path));
    const place = await this.#within(path);
    const there = await statOf(join(this.folder, place));
    if (there && mode === undefined) return;
    const entry = { path, type: 'directory', ...owner, mtime: 0, data: new Uint8Array(0), target: '' } as const;
    await this.put({ ...entry, mode: mode ?? 0o755 });
  }

  /** Path of a file of the tree on this computer. */
  async locate(path: string): Promise<string> {
    return join(this.folder, await this.#within(path));
  }

  async #within(path: string): Promise<string> {
    return join(await this.#placeOf(dirnameOf(path)), basenameOf(path));
  }

  /** A folder's own path, no link in it. Links out of the tree do not lead there: "/" and ".." end at its root. */
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
