/**
 * Chooses the format of a local path if the user gives none: a raw disk, or the image format of
 * the file's name (docs/security.md). The user controls the name, a guest the content. So the name
 * decides, and the content can only contradict it; content never turns a raw disk into an image.
 */
import { stat } from 'node:fs/promises';
import { FarbusError, usageError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { similar } from '../base/similar.js';
import { claimsOtherFormat, formatsOfName, imageFormats } from '../protocol/qemu/formats.js';
import { detectFormat } from '../protocol/qemu/detect.node.js';
import { printable } from '../storage/opening.node.js';
import type { SourceFormat } from '../protocol/qemu/options.js';

/**
 * The format in which to open `path`.
 * @throws FarbusError if name and content contradict each other
 */
export async function formatToOpen(path: string, log: Logger): Promise<SourceFormat> {
  const found = await stat(path).catch(() => undefined);
  // If it is no regular file, opening it as a disk reports what is wrong. A block device is a raw
  // disk, whatever its name.
  if (!found?.isFile()) return 'raw';
  const claimed = formatsOfName(path);
  const format = await detectFormat(path);
  const name = printable(path);
  if (claimed.length === 0) {
    if (format)
      log.log('warn', `${name} looks like a ${format} image and is used as raw bytes: ${format}:PATH opens the image`);
    return 'raw';
  }
  if (!format || !claimed.includes(format)) {
    const like = format ? `like a ${format} image` : `not like one`;
    throw new FarbusError(
      `${name} has the name of a ${claimed[0]!} image and begins ${like}: give ${format ?? claimed[0]!}:PATH, or raw:PATH for its bytes`,
    );
  }
  return format;
}

/**
 * Refuses a path, given without a format, at which a file of raw bytes would be made although its
 * name promises another format.
 * @throws FarbusError
 */
export function checkRawName(path: string): void {
  const name = printable(path);
  if (claimsOtherFormat(path)) {
    throw usageError(`${name} is not made: its name ends like a format that is not written; raw:PATH writes raw bytes`);
  }
  const prefix = /^([a-z0-9]+):/i.exec(path)?.[1];
  if (prefix === undefined) return;
  // Other programs call QEMU's format vpc so.
  const near = prefix === 'vhd' ? 'vpc' : similar(prefix, ['raw', ...imageFormats]);
  if (near === undefined) return;
  throw usageError(`${name} is not made: there is no format ${prefix}, did you mean ${near}:PATH? ./${name} is a file`);
}
