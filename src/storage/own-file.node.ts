/**
 * Files that Farbus keeps for itself and that a user names: overlays and caches. Such a file is Farbus's only if it is empty
 * or begins with the format's magic bytes. Every other file is somebody's data and stays as it is, also if it begins with
 * zeroes, as blank disks and ISO images do.
 *
 * A new file is made beside the path and renamed to it when its header is durable. So a crash leaves no file, an empty one
 * or a complete one at the path, and never a file of zeroes that could not be told from a blank disk.
 */
import fs from 'node:fs/promises';
import { errnoOf, FarbusError } from '../base/errors.js';
import { syncFolder, temporaryBeside } from '../base/files.node.js';
import { libc } from './libc.node.js';
import { printable } from './opening.node.js';

/** Longest magic that is looked at, in bytes. */
const magicSize = 8;
/** How often a path is looked at again, if its file is replaced meanwhile. */
const attempts = 5;

export interface OwnFile<T> {
  /** For messages: "an overlay". */
  readonly what: string;
  /** Whether these are the first 8 bytes of a file of this kind, of whatever version and state. */
  readonly isOurs: (start: Uint8Array) => boolean;
  /** Length of a new file, in bytes. */
  readonly size: number;
  /** Makes the header of a new file, which has its length already, durably. */
  readonly make: (path: string) => Promise<T>;
  /** Opens a file that is ours. */
  readonly open: (path: string) => Promise<T>;
}

/**
 * Opens the file at `path`, or makes it where there is none or an empty one.
 * @throws FarbusError where it is somebody else's, in use or no file; the system's error where it cannot be had.
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
      // Who has the empty file locked makes the new one; all others find that one then.
      await libc()?.lock(handle.fd);
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

async function openOrCreate(path: string): Promise<{ handle: fs.FileHandle; made: boolean }> {
  try {
    return { handle: await fs.open(path, 'wx+', 0o600), made: true };
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    return { handle: await fs.open(path, 'r+'), made: false };
  }
}

/** Length and mode of a file that is empty or ours. */
async function look(
  handle: fs.FileHandle,
  path: string,
  { what, isOurs }: OwnFile<unknown>,
): Promise<{ size: number; mode: number }> {
  const stat = await handle.stat();
  if (!stat.isFile()) throw new FarbusError(`${printable(path)} is no file: give another path`);
  const { size, mode } = stat;
  const start = new Uint8Array(magicSize);
  if (size > 0) await handle.read(start, 0, start.length, 0);
  if (size > 0 && !isOurs(start)) {
    throw new FarbusError(`${printable(path)} is not ${what}: give another path, or delete it if it is not needed`);
  }
  return { size, mode: mode & 0o777 };
}

/** Whether `path` still names the open file, and that is still empty. */
async function isAt(handle: fs.FileHandle, path: string): Promise<boolean> {
  try {
    const [mine, there] = await Promise.all([handle.stat({ bigint: true }), fs.stat(path, { bigint: true })]);
    return mine.ino === there.ino && mine.dev === there.dev && there.size === 0n;
  } catch {
    return false;
  }
}

/** Makes a new file and puts it in the place of the empty one that is locked. */
async function replace<T>(path: string, empty: fs.FileHandle, mode: number, own: OwnFile<T>): Promise<T> {
  const real = await fs.realpath(path);
  const temporary = await temporaryBeside(real);
  let handle: fs.FileHandle;
  try {
    handle = await fs.open(temporary, 'wx', mode);
  } catch (error) {
    if (!['EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) throw error;
    // The user may write the empty file and not its folder: it is filled in place.
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
