/**
 * Files in a format of Farbus at a path that the user chooses: overlays and caches. Farbus
 * overwrites a file only if it is empty or begins with the format's magic bytes. Every other file
 * may contain a user's data and is never changed, even if it begins with zeroes like a blank disk
 * or an ISO image.
 *
 * A new file is made beside the path and renamed to it when its header is durable. So a crash
 * leaves no file, an empty file or a complete file at the path, and never a file of zeroes, which
 * would look like a blank disk.
 */
import fs from 'node:fs/promises';
import { errnoOf, FarbusError } from '../base/errors.js';
import { syncFolder, temporaryBeside } from '../base/files.node.js';
import { fileCalls } from '../linux/files.node.js';
import { checkCanMake, printable } from './opening.node.js';

/** Attempts to open a path whose file is replaced meanwhile. */
const attempts = 5;

export interface OwnFile<T> {
  /** The kind of file, for messages: "an overlay". */
  readonly what: string;
  /** The first bytes of every file of this kind, of any version and state: 8 ASCII characters. */
  readonly magic: string;
  /** Length of a new file, in bytes. */
  readonly size: number;
  /** Writes the header of a new file durably and opens it. The file already has its length. */
  readonly make: (path: string) => Promise<T>;
  /** Opens a file of this kind. */
  readonly open: (path: string) => Promise<T>;
}

/**
 * Opens the file at `path`, or makes it if it does not exist or is empty.
 * @throws FarbusError if it is not of this kind, or not a file; the system's error if it cannot be
 * opened
 */
export async function openOwnFile<T>(path: string, own: OwnFile<T>): Promise<T> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const { handle, made } = await openOrCreate(path);
    try {
      const { size, mode } = await look(handle, path, own);
      if (size > 0) {
        await handle.close();
        return await own.open(path);
      }
      // The process that gets the lock on the empty file makes the new one; the others then find
      // that.
      await fileCalls()?.lock(handle.fd);
      if (await isAt(handle, path)) return await replace(path, handle, mode, own);
    } catch (error) {
      if (made && (await isAt(handle, path))) await fs.rm(path, { force: true });
      throw error;
    } finally {
      await handle.close().catch(() => undefined);
    }
  }
  throw new FarbusError(`${printable(path)} is replaced again and again: give another path`);
}

/**
 * Checks the file at `path` as {@link openOwnFile} does, but makes and changes nothing. Returns
 * false if that would make it: it does not exist, or is empty.
 * @throws FarbusError if it is not of this kind, or not a file; the system's error if it cannot be
 * opened or made
 */
export async function isOwnFile(path: string, own: Pick<OwnFile<unknown>, 'what' | 'magic'>): Promise<boolean> {
  const handle = await fs.open(path, 'r+').catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
  if (!handle) {
    await checkCanMake(path);
    return false;
  }
  try {
    return (await look(handle, path, own)).size > 0;
  } finally {
    await handle.close();
  }
}

async function openOrCreate(path: string): Promise<{ handle: fs.FileHandle; made: boolean }> {
  try {
    return { handle: await fs.open(path, 'wx+', 0o600), made: true };
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    return { handle: await fs.open(path, 'r+'), made: false };
  }
}

/** Length and mode of the file. @throws FarbusError if it is neither empty nor of this kind */
async function look(
  handle: fs.FileHandle,
  path: string,
  { what, magic }: Pick<OwnFile<unknown>, 'what' | 'magic'>,
): Promise<{ size: number; mode: number }> {
  const stat = await handle.stat();
  if (!stat.isFile()) throw new FarbusError(`${printable(path)} is no file: give another path`);
  const { size, mode } = stat;
  const start = Buffer.alloc(magic.length);
  if (size > 0) await handle.read(start, 0, start.length, 0);
  if (size > 0 && start.toString('latin1') !== magic) {
    throw new FarbusError(`${printable(path)} is not ${what}: give another path`);
  }
  return { size, mode: mode & 0o777 };
}

/** True if `path` still names the open file and that is still empty. */
async function isAt(handle: fs.FileHandle, path: string): Promise<boolean> {
  try {
    const [mine, there] = await Promise.all([handle.stat({ bigint: true }), fs.stat(path, { bigint: true })]);
    return mine.ino === there.ino && mine.dev === there.dev && there.size === 0n;
  } catch {
    return false;
  }
}

/** Makes a new file and replaces the locked empty file by it. */
async function replace<T>(path: string, empty: fs.FileHandle, mode: number, own: OwnFile<T>): Promise<T> {
  const real = await fs.realpath(path);
  const temporary = await temporaryBeside(real);
  let handle: fs.FileHandle;
  try {
    handle = await fs.open(temporary, 'wx', mode);
  } catch (error) {
    if (!['EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) throw error;
    // The user may write the empty file but not its folder: fill it in place. The magic bytes come
    // first, or a crash could leave a file of zeroes, which would look like a blank disk.
    await empty.write(own.magic, 0, 'latin1');
    await empty.sync();
    await empty.truncate(own.size);
    await empty.close();
    return own.make(path);
  }
  try {
    await handle.chmod(mode);
    await handle.truncate(own.size);
    await handle.close();
    const made = await own.make(temporary);
    await fs.rename(temporary, real);
    await syncFolder(real);
    return made;
  } catch (error) {
    await handle.close().catch(() => undefined);
    await fs.rm(temporary, { force: true });
    throw error;
  }
}
