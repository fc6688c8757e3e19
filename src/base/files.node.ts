/**
 * Writing files safely in folders where other users may write too: files that are replaced as a
 * whole or not at all, and files that are written piece by piece.
 *
 * A temporary file stands beside the file that it replaces. Its name cannot be predicted, and it is
 * opened with O_EXCL, which fails on an existing link. So another user cannot place a link of that
 * name that makes this user overwrite another of his files.
 */
import { constants } from 'node:fs';
import { lstat, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoOf, FarbusError } from './errors.js';
import { makeFolders } from './folders.node.js';
import { ownedName, removeOrphans } from './owned.node.js';

/** Separates the file's name from the owner (owned.node.ts) in the name of its temporary file. */
export const replaceMark = '.farbus-';

export interface ReplaceOptions {
  /** Permissions of the file. Default 0600. */
  readonly mode?: number;
  /** If true, the folder is made if it does not exist. Default false. */
  readonly makesFolder?: boolean;
  /** If true, the file and its name are on the medium when the promise resolves. Default false. */
  readonly durable?: boolean;
}

/**
 * Replaces the file at `path` by a file with the bytes of `parts`, in order. A reader sees the old
 * file or the new one, never a mixture. Replaces a link at `path` instead of following it. If it
 * rejects (with the system's error), the old file is unchanged.
 */
export async function replaceFile(
  path: string,
  parts: Iterable<Uint8Array | string>,
  { mode = 0o600, makesFolder = false, durable = false }: ReplaceOptions = {},
): Promise<void> {
  const folder = dirname(resolve(path));
  if (makesFolder && durable) await makeDurableFolder(folder);
  else if (makesFolder) makeFolders(folder);
  const temporary = await temporaryBeside(path);
  const file = await open(temporary, 'wx', mode);
  try {
    try {
      for (const part of parts) await file.writeFile(part);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (durable) await syncFolder(path);
}

/**
 * A new path beside `path`, for a temporary file that will replace it. Removes the temporary files
 * for `path` that killed processes have left.
 */
export async function temporaryBeside(path: string): Promise<string> {
  const folder = dirname(resolve(path));
  // Use only the beginning of a long name: Linux limits a name to 255 bytes.
  const prefix = `.${basename(path).slice(0, 50)}${replaceMark}`;
  await removeOrphans(folder, prefix);
  return join(folder, ownedName(prefix));
}

/**
 * Makes the folder at `path`, and those above it, if they do not exist, and makes their names
 * durable: after a power cut a file in a folder that is lost is lost too.
 */
export async function makeDurableFolder(path: string, mode = 0o777): Promise<void> {
  const first = makeFolders(path, mode);
  if (first === undefined) return;
  for (let made = resolve(path); ; made = dirname(made)) {
    await syncFolder(made);
    if (made === resolve(first)) return;
  }
}

/** Makes the name of the file at `path` durable (fsync of its folder). Ignores a failure. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(dirname(resolve(path))).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/**
 * Opens a file that the user has named, empties it, and makes it if it does not exist. Follows a
 * link that this user or root owns, such as /dev/stderr; refuses a link of another user. Rejects
 * with a FarbusError or the system's error.
 * @param mode permissions of a new file
 */
export async function openForWriting(path: string, mode = 0o600): Promise<FileHandle> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  const ours = found === undefined || found.uid === 0 || found.uid === process.getuid?.();
  if (found?.isSymbolicLink() && !ours) {
    throw new FarbusError(`${path} is a link that another user has made: remove it, or choose another name`);
  }
  const follow = found?.isSymbolicLink() ? 0 : O_NOFOLLOW;
  return open(path, O_WRONLY | O_CREAT | O_TRUNC | follow, mode);
}
