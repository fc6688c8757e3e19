/**
 * Protects files from being overwritten by a command's output: an older output of the same kind is
 * replaced, but any other file may be the user's data. Outputs make no folders: a mistyped path
 * would leave one.
 */
import { open, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FarbusError } from '../base/errors.js';
import { printable } from '../storage/opening.node.js';

/** Bytes at the start of a file from which its kind is recognised. */
const startSize = 128;

/**
 * Refuses a file `path` that is neither empty nor of the kind to write. If it cannot be opened,
 * the caller's attempt to write will report that.
 * @param what The kind, for the error: "a trace".
 * @param isOurs True if a file that starts with these bytes is of that kind.
 * @throws FarbusError
 */
export async function checkOutputFile(
  path: string,
  what: string,
  isOurs: (start: Uint8Array) => boolean,
): Promise<void> {
  // Skip devices and pipes (/dev/stdout): they hold no data to lose, and opening a named pipe waits
  // for a writer.
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile() || found.size === 0) return;
  const file = await open(path, 'r').catch(() => undefined);
  if (!file) return;
  try {
    const { bytesRead, buffer } = await file.read(new Uint8Array(startSize), 0, startSize, 0);
    if (isOurs(buffer.subarray(0, bytesRead))) return;
  } finally {
    await file.close();
  }
  throw new FarbusError(`${printable(path)} exists and is not ${what}: give another path, or delete it first`);
}

/**
 * Refuses an output whose folder does not exist, before the work that would be lost.
 * @throws FarbusError
 */
export async function checkOutputFolder(path: string): Promise<void> {
  const folder = dirname(resolve(path));
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return;
  const why = found ? `${printable(folder)} is no folder` : `there is no folder ${printable(folder)}: make it`;
  throw new FarbusError(`cannot write ${printable(path)}: ${why}, or give another path`);
}
