/** Files that a command writes anew: an older one of the same kind is replaced, every other file is somebody's data. */
import { open, stat } from 'node:fs/promises';
import { FarbusError } from '../base/errors.js';
import { printable } from '../storage/opening.node.js';

/** Bytes from which a kind is recognised. */
const startSize = 128;

/**
 * Throws where `path` is a file that is neither empty nor of the kind that is to be written. A path that cannot be opened
 * is left to the caller, whose attempt to write reports why.
 * @param what "a trace"
 * @param isOurs Whether a file that begins so is of that kind.
 * @throws FarbusError
 */
export async function checkOutputFile(
  path: string,
  what: string,
  isOurs: (start: Uint8Array) => boolean,
): Promise<void> {
  // Devices and pipes (/dev/stdout) keep nothing that could be lost, and opening a named pipe waits for a writer.
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
