/** What opening files and block devices has in common: how a path is opened, and what a person is told if it fails. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { realpath } from 'node:fs/promises';
import { promisify } from 'node:util';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { visible } from '../base/printable.js';

const openFd = promisify(fs.open);

/** How a path is to be opened. */
export interface OpenOptions {
  /** True: read only. False: fail unless it can be written. Otherwise: writable where the path allows it. */
  readonly readOnly?: boolean | undefined;
  /**
   * Refuse what somebody else uses. A writable block device: default true. A file: default false; true takes an
   * advisory lock (flock(2)) where koffi is installed.
   */
  readonly exclusive?: boolean | undefined;
  /** Whether to use koffi where it is installed; default true. */
  readonly native?: boolean | undefined;
}

export interface Opened {
  readonly fd: number;
  readonly readOnly: boolean;
}

/** Reasons for which a path can be read but not written. */
const unwritable = new Set(['EACCES', 'EPERM', 'EROFS', 'ETXTBSY']);

/**
 * Opens `path` for reading and, unless it is asked or has to be otherwise, writing. `flags` are added; `writeFlags` (O_EXCL)
 * where it is written.
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

/** The way out where a disk can only be read. In this form every command takes it, behind the source. */
export const readOnlyHint = 'or add ,read-only to it';

/**
 * Any error of opening `path` as one line that says what to do.
 * @param options Of an opening that could have been for reading only: that is then said as well.
 */
export function openError(path: string, error: unknown, options: OpenOptions = { readOnly: false }): FarbusError {
  if (error instanceof FarbusError) return error;
  const code = errnoOf(error) ?? '';
  const what = advice[code] ?? `${messageOf(error)}: check the path`;
  // For the other reasons for which it cannot be written, it is opened for reading without being asked.
  const hint = options.readOnly === undefined && code === 'EBUSY' ? `, ${readOnlyHint}` : '';
  return new FarbusError(`cannot open ${printable(path)}: ${what}${hint}`, { cause: error });
}

/** A path as it can stand in a one-line message. */
export function printable(path: string): string {
  return visible(path);
}

/** What identifies the bytes behind a path of this machine: the real path, hashed, as it may be sent to a peer. */
export async function pathIdentity(path: string): Promise<string> {
  const hash = createHash('sha256').update(await realpath(path));
  return `file:${hash.digest('hex').slice(0, 32)}`;
}
