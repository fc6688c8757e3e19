/**
 * Opens the target of a copy: an existing source, a new sparse file of the right size, or a new
 * disk image.
 */
import { open, rm, stat } from 'node:fs/promises';
import { errnoOf, FarbusError, usageError } from '../../base/errors.js';
import { syncFolder } from '../../base/files.node.js';
import { formatBytes } from '../../base/format.js';
import type { BlockDevice } from '../../block/device.js';
import { createImage } from '../../protocol/qemu/create.node.js';
import { openError, printable } from '../../storage/opening.node.js';
import { openPath } from '../../storage/open.node.js';
import { isFileFilter } from '../filters.js';
import { checkRawName } from '../source-format.js';
import { sourceHint } from '../source-hint.js';
import { imagePath, localPath, plainPath, type ImagePath, type Source } from '../source-text.js';
import { openSource, type SourceOptions } from '../sources.js';

export interface CopyTarget {
  readonly device: BlockDevice;
  /** The target is new and reads as zeroes. */
  readonly fresh: boolean;
}

/**
 * Opens the target of a copy of `size` bytes.
 * @param from The source that is copied; undefined if it has no text.
 * @param resume The target must already exist.
 * @throws FarbusError if it cannot be opened or written, or is too small
 */
export async function openTarget(
  from: Source | undefined,
  target: Source,
  size: number,
  resume: boolean,
  options: SourceOptions,
): Promise<CopyTarget> {
  // With filters the target is a part of an existing device, so no file is created.
  if (target.words.length > 0) return { device: await openFilteredTarget(target, size, options), fresh: false };
  if (from) await checkOtherFile(from, target);
  const path = plainPath(target);
  const image = imagePath(target);
  const hasFormat = target.place.kind === 'local' && target.place.format !== undefined;
  const made =
    path !== undefined
      ? await prepareFile(path, size, resume, hasFormat)
      : image !== undefined && (await prepareImage(image, size, resume, options.signal));
  const file = path ?? image?.path;
  let device: BlockDevice | undefined;
  try {
    device =
      path !== undefined
        ? await openPath(path, { readOnly: false, exclusive: true, signal: options.signal })
        : await openSource(target, { ...options, readOnly: false });
    checkTarget(target.text, device, size);
    if (made) await syncFolder(file!);
    return { device, fresh: made };
  } catch (error) {
    await device?.close();
    if (made) await rm(file!, { force: true });
    throw error;
  }
}

/**
 * Refuses a target that is a file of the source. Looked at later it would only have another size,
 * and the advice to delete it would cost the source.
 */
async function checkOtherFile(from: Source, target: Source): Promise<void> {
  const path = localPath(target);
  const there = path === undefined ? undefined : await stat(path).catch(() => undefined);
  if (!there) return;
  const files = from.words.flatMap(([name, value]) => (value !== undefined && isFileFilter(name) ? [value] : []));
  for (const file of [localPath(from), ...files]) {
    const one = file === undefined ? undefined : await stat(file).catch(() => undefined);
    if (one?.dev === there.dev && one.ino === there.ino) throw sameError(from.text, target.text);
  }
}

/** The error of a copy onto itself. Equal texts are wrong whatever is on the disk. */
export function sameError(from: string, to: string): FarbusError {
  const message = `${from} and ${to} are the same: give another place to copy to`;
  return from === to ? usageError(message) : new FarbusError(message);
}

async function openFilteredTarget(target: Source, size: number, options: SourceOptions): Promise<BlockDevice> {
  const path = localPath(target);
  if (path !== undefined && !(await exists(path))) {
    throw usageError(`${target.text} does not exist, and a new file takes no filters: give ${target.location} alone`);
  }
  const device = await openSource(target, options);
  try {
    checkTarget(target.text, device, size);
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}

function exists(path: string): Promise<boolean> {
  // Opening it reports any other error.
  return stat(path).then(
    () => true,
    (error: unknown) => errnoOf(error) !== 'ENOENT',
  );
}

function checkTarget(text: string, { info }: BlockDevice, size: number): void {
  if (info.readOnly) throw new FarbusError(`${text} is read-only: give another place to copy to`);
  if (info.size >= size) return;
  const [there, wanted] = [formatBytes(info.size), formatBytes(size)];
  throw new FarbusError(`${text} is too small: it has ${there} (${info.size} bytes), ${wanted} (${size}) are needed`);
}

/** Creates the target file, or checks the size of an existing one. Returns true if it is new. */
async function prepareFile(path: string, size: number, resume: boolean, hasFormat: boolean): Promise<boolean> {
  const found = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw openError(path, error);
  });
  if (found && !(found.isFile() && found.size === 0)) {
    if (found.isFile() && found.size !== size) {
      throw new FarbusError(
        `${printable(path)} exists with ${found.size} bytes, and the source has ${size}: delete it, or give another path`,
      );
    }
    return false;
  }
  const hint = found ? undefined : sourceHint(path);
  if (hint !== undefined) throw usageError(`${printable(path)} is not made, as its name ends like a filter: ${hint}`);
  if (!found && !hasFormat) checkRawName(path);
  if (!found && resume) throw new FarbusError(`there is nothing to resume: ${printable(path)} does not exist`);
  try {
    const file = await open(path, found ? 'r+' : 'wx');
    try {
      await file.truncate(size);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!found) await rm(path, { force: true });
    throw openError(path, error);
  }
  return true;
}

/** Creates the target image unless it exists. Returns true if it is new. */
async function prepareImage(
  { path, format }: ImagePath,
  size: number,
  resume: boolean,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const found = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw openError(path, error);
  });
  if (found && !(found.isFile() && found.size === 0)) return false;
  if (resume) throw new FarbusError(`there is nothing to resume: ${printable(path)} does not exist`);
  await createImage(path, format, size, signal).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw openError(path, error);
  });
  return true;
}
