/**
 * Common parts of opening files and block devices: opening a path, and error messages for people.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { access, lstat, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { visible } from '../base/printable.js';

const openFd = promisify(fs.open);

/** Options of opening a path. */
export interface OpenOptions {
  /**
   * True: open read-only. False: fail if it cannot be written. Undefined: writable if the path
   * permits it.
   */
  readonly readOnly?: boolean | undefined;
  /**
   * If true, refuse a path that is in use. For a writable block device: default true (O_EXCL). For
   * a file: default false; true takes an advisory lock (flock(2)) if koffi is installed.
   */
  readonly exclusive?: boolean | undefined;
  /** If false, koffi is not used even if it is installed. Default true. */
  readonly native?: boolean | undefined;
  /**
   * If true, the path is checked as for any other opening, but the caller writes nothing, and
   * opening changes nothing, not even a time.
   */
  readonly dryRun?: boolean | undefined;
  /** Ends the opening: it rejects at once, even while open(2) waits. Later it has no effect. */
  readonly signal?: AbortSignal | undefined;
}

export interface Opened {
  readonly fd: number;
  readonly readOnly: boolean;
}

/** Errors of opening for writing after which opening for reading may succeed. */
const unwritable = new Set(['EACCES', 'EPERM', 'EROFS', 'ETXTBSY']);

/**
 * Opens `path` for reading and, depending on `readOnly` ({@link OpenOptions.readOnly}) and on
 * permissions, writing.
 * @param writeFlags further flags of open(2) for opening to write (O_EXCL)
 * @param flags further flags of open(2) in any case
 */
export async function openDescriptor(
  path: string,
  readOnly: boolean | undefined,
  writeFlags = 0,
  flags = 0,
): Promise<Opened> {
  const { O_RDONLY, O_RDWR } = fs.constants;
  if (readOnly !== true) {
    try {
      return { fd: await openFd(path, O_RDWR | writeFlags | flags), readOnly: false };
    } catch (error) {
      if (readOnly === false || !unwritable.has(errnoOf(error) ?? '')) throw error;
    }
  }
  return { fd: await openFd(path, O_RDONLY | flags), readOnly: true };
}

const advice: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file: check the path',
  ENOTDIR: 'a part of the path is not a folder: check the path',
  ELOOP: 'its symbolic links lead in a circle: check the path',
  EACCES: 'permission denied: run as a user who may open it',
  EPERM: 'permission denied: run as a user who may open it',
  EROFS: 'its file system is read-only: choose another one',
  ETXTBSY: 'it is in use as a program or as swap: stop that first',
  EISDIR: 'it is a folder: give a file or a block device',
  EBUSY: 'it is in use: stop what uses it (see lsblk)',
  EAGAIN: 'another program has it locked: stop that one first',
  ENOMEDIUM: 'the drive has no medium: insert one',
  ENXIO: 'there is no device behind it: check that it is plugged in',
  ENODEV: 'there is no device behind it: check that it is plugged in',
  EMFILE: 'too many open files: raise the limit (ulimit -n)',
  ENFILE: 'too many open files on this machine: close some programs',
  ENOSPC: 'the disk is full: make room',
  EDQUOT: 'the disk quota is used up: make room',
  EEXIST: 'it exists already: give another path, or delete it',
};

/** The advice if a disk can only be read. Every command accepts `,read-only` after the source. */
export const readOnlyHint = 'or add ,read-only to it';

/**
 * Converts any error of opening `path` into one line that says what to do.
 * @param options the options of the opening: if it could have been read-only instead, the line says
 * so
 */
export function openError(path: string, error: unknown, options: OpenOptions = { readOnly: false }): FarbusError {
  if (error instanceof FarbusError) return error;
  const code = errnoOf(error) ?? '';
  const what = missingFolder(path, code) ?? advice[code] ?? `${messageOf(error)}: check the path`;
  // Only for EBUSY: with the errors in `unwritable`, the path has already been tried read-only.
  const hint = options.readOnly === undefined && code === 'EBUSY' ? `, ${readOnlyHint}` : '';
  return new FarbusError(`cannot open ${printable(path)}: ${what}${hint}`, { cause: error });
}

/** If `path` was not found because its folder does not exist: says so. */
function missingFolder(path: string, code: string): string | undefined {
  const folder = dirname(path);
  if (code !== 'ENOENT' || fs.existsSync(folder)) return undefined;
  return `there is no such file, and no folder ${printable(folder)}: check the path, or make the folder`;
}

/** A path for a message of one line: hidden characters become "?". */
export function printable(path: string): string {
  return visible(path);
}

/**
 * Checks that a file that does not exist can be made at `path`, without making it.
 * @throws Error the system error that making it would give
 */
export async function checkCanMake(path: string): Promise<void> {
  const refuse = (code: string): never => {
    throw Object.assign(new Error(code), { code });
  };
  if (path.endsWith('/')) refuse('EISDIR');
  // A link to a file that does not exist.
  const link = await lstat(path).catch(() => undefined);
  if (link) refuse('EEXIST');
  await access(dirname(path), fs.constants.W_OK | fs.constants.X_OK);
}

/**
 * An identity of the bytes at a path of this computer: its real path, hashed because it may be sent
 * to a peer.
 */
export async function pathIdentity(path: string): Promise<string> {
  const hash = createHash('sha256').update(await realpath(path));
  return `file:${hash.digest('hex').slice(0, 32)}`;
}
