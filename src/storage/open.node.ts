/** Opens a path, a regular file or a block device, as a BlockDevice. */
import { stat } from 'node:fs/promises';
import { untilAbort } from '../base/abort.js';
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { openBlockDevice } from './block-device.node.js';
import { openFile } from './file.node.js';
import { openError, printable, type OpenOptions } from './opening.node.js';
import { openRemovable } from './removable.node.js';

/**
 * Opens the file or block device at `path`. The device's identity is stable across restarts of the
 * process.
 * @throws FarbusError with one line: what is wrong with the path and what to do
 */
export function openPath(path: string, { signal, ...options }: OpenOptions = {}): Promise<BlockDevice> {
  return untilAbort(signal, openAny(path, options), (late) => late.close());
}

async function openAny(path: string, options: OpenOptions): Promise<BlockDevice> {
  const found = await stat(path).catch((error: unknown) => {
    throw openError(path, error);
  });
  if (found.isFile()) return openFile(path, options);
  if (found.isBlockDevice()) return (await openRemovable(path, options)) ?? openBlockDevice(path, options);
  const kind = found.isDirectory()
    ? 'it is a folder'
    : found.isFIFO()
      ? 'it is a pipe'
      : found.isSocket()
        ? 'it is a socket'
        : 'it is a character device';
  throw new FarbusError(`cannot open ${printable(path)}: ${kind}: give a file or a block device`);
}
