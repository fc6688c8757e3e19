/**
 * Files that are written whole or not at all, and files that are written as they come, in folders where others may write too.
 *
 * A temporary file has a name that nobody can know before, beside the file that it becomes, and is new (O_EXCL, which follows
 * no link): another user cannot make us write into a file of our own by a link of that name.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoOf, FarbusError } from './errors.js';
import { ownedName, removeOrphans } from './owned.node.js';

/** What stands between the name of a file and the owner in the name of the temporary file that becomes it. */
export const replaceMark = '.farbus-';

export interface ReplaceOptions {
  /** Permissions of the file; its owner's only where nothing is said. */
  readonly mode?: number;
  /** The file is on the medium when this resolves. */
  readonly durable?: boolean;
}

/**
 * Replaces the file at `path` by one with the bytes of `parts`, one after the other; a reader sees the old file or the new
 * one. A link at `path` is replaced, not followed. Rejects with the system's error; the old file is then as it was.
 */
export async function replaceFile(
  path: string,
  parts: Iterable<Uint8Array | string>,
  { mode = 0o600, durable = false }: ReplaceOptions = {},
): Promise<void> {
  await mkdir(dirname(resolve(path)), { recursive: true });
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

/** A new name beside `path`, for a file that is to take its place. Removes what an earlier process has left of that kind. */
export async function temporaryBeside(path: string): Promise<string> {
  const folder = dirname(resolve(path));
  // Of a long name only the beginning: the whole has 255 bytes at most.
  const prefix = `.${basename(path).slice(0, 50)}${replaceMark}`;
  await removeOrphans(folder, prefix);
  return join(folder, ownedName(prefix));
}

/** Makes the name of a file durable; nothing where the system cannot. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(dirname(resolve(path))).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/**
 * Opens a file that the user has named, for writing from its beginning. A link is followed where it is ours or root's,
 * as /dev/stderr is; another user's is refused.
 * Rejects with a FarbusError, or the system's error.
 */
export async function openForWriting(path: string): Promise<FileHandle> {
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
  return open(path, O_WRONLY | O_CREAT | O_TRUNC | follow, 0o600);
}
