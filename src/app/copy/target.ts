/**
 * Looks at the target of a copy and opens it: an existing source, a new sparse file of the right
 * size, or a new disk image.
 */
import { open, rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { errnoOf, FarbusError, usageError } from '../../base/errors.js';
import { syncFolder } from '../../base/files.node.js';
import { formatBytes } from '../../base/format.js';
import { silent } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { createImage } from '../../protocol/qemu/create.node.js';
import type { ImageFormat } from '../../protocol/qemu/formats.js';
import type { SourceFormat } from '../../protocol/qemu/options.js';
import { qemuProgram } from '../../protocol/qemu/process.node.js';
import { checkCanMake, openError, printable } from '../../storage/opening.node.js';
import { openPath } from '../../storage/open.node.js';
import { isFileFilter } from '../filters.js';
import { checkRawName, formatToOpen } from '../source-format.js';
import { sourceHint } from '../source-hint.js';
import { imagePath, localPath, plainPath, type Source } from '../source-text.js';
import { openSource, type SourceOptions } from '../sources.js';

export interface CopyTarget {
  readonly device: BlockDevice;
  /** The target is new and reads as zeroes. */
  readonly fresh: boolean;
}

/** The target of a copy as it is before the copy. */
export interface TargetView {
  /** Open to be looked at, not to be written; undefined if the copy makes or fills the file. */
  readonly device: BlockDevice | undefined;
  /** `new`: there is no such file. `empty`: it is there without content. */
  readonly state: 'new' | 'empty' | 'exists';
  readonly kind: 'file' | 'block device' | 'other';
  /** The format in which a file or block device of this computer is written. */
  readonly format: SourceFormat | undefined;
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
  const file = await findTarget(from, target, size, resume);
  const made = file !== undefined && file.state !== 'exists';
  if (made) await makeFile(file, size, options.signal);
  let device: BlockDevice | undefined;
  try {
    device = await openExisting(target, size, options);
    if (made) await syncFolder(file.path);
    return { device, fresh: made };
  } catch (error) {
    await device?.close();
    if (made) await rm(file.path, { force: true });
    throw error;
  }
}

/**
 * Looks at the target of a copy, for a dry run: refuses what {@link openTarget} refuses, but makes
 * and changes nothing. Parameters and errors are those of openTarget.
 */
export async function lookAtTarget(
  from: Source | undefined,
  target: Source,
  size: number,
  resume: boolean,
  options: SourceOptions,
): Promise<TargetView> {
  const path = localPath(target);
  const file = await findTarget(from, target, size, resume);
  if (file && file.state !== 'exists') {
    await checkCanBeFilled(file, options);
    return { device: undefined, state: file.state, kind: 'file', format: file.image ?? 'raw' };
  }
  const device = await openExisting(target, size, { ...options, looksOnly: true, dryRun: true });
  const found = path === undefined ? undefined : await stat(path).catch(() => undefined);
  const kind = found?.isFile() ? 'file' : found?.isBlockDevice() ? 'block device' : 'other';
  const given = target.filters.format ?? (target.place.kind === 'local' ? target.place.format : undefined);
  // Opening it has told what is suspect about the format.
  const format = given ?? (path === undefined ? undefined : await formatToOpen(path, silent));
  return { device, state: 'exists', kind, format };
}

/** Opens a target that exists and checks that it can be written and is large enough. */
async function openExisting(target: Source, size: number, options: SourceOptions): Promise<BlockDevice> {
  // Without filters, raw bytes need no more than their path.
  const path = target.words.length === 0 ? plainPath(target) : undefined;
  const { signal, dryRun } = options;
  const device =
    path !== undefined
      ? await openPath(path, { readOnly: false, exclusive: true, signal, dryRun })
      : await openSource(target, target.words.length > 0 ? options : { ...options, readOnly: false });
  try {
    checkTarget(target.text, device, size);
    return device;
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** The file that a target names. */
interface TargetFile {
  readonly path: string;
  /** The format of an image; undefined for raw bytes. */
  readonly image: ImageFormat | undefined;
  readonly state: TargetView['state'];
}

/**
 * Finds the file of a target and refuses one that cannot be the target. Returns undefined if the
 * target is no whole file or block device of this computer. Changes nothing.
 */
async function findTarget(
  from: Source | undefined,
  target: Source,
  size: number,
  resume: boolean,
): Promise<TargetFile | undefined> {
  // With filters the target is a part of an existing device, so no file is created.
  if (target.words.length > 0) {
    const path = localPath(target);
    if (path === undefined || (await exists(path))) return undefined;
    throw usageError(`${target.text} does not exist, and a new file takes no filters: give ${target.location} alone`);
  }
  if (from) await checkOtherFile(from, target);
  const image = imagePath(target);
  const path = plainPath(target) ?? image?.path;
  if (path === undefined) return undefined;
  const found = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw openError(path, error);
  });
  const file = { path, image: image?.format, state: 'exists' } as const;
  if (found && !(found.isFile() && found.size === 0)) {
    if (!image && found.isFile() && found.size !== size) {
      throw new FarbusError(
        `${printable(path)} exists with ${found.size} bytes, and the source has ${size}: delete it, or give another path`,
      );
    }
    return file;
  }
  if (!found && !image) checkNewName(path, target.place.kind === 'local' && target.place.format !== undefined);
  if (resume && !(found && !image)) {
    throw new FarbusError(`there is nothing to resume: ${printable(path)} does not exist`);
  }
  return { ...file, state: found ? 'empty' : 'new' };
}

/** Refuses a name of a new raw file that promises something else. */
function checkNewName(path: string, hasFormat: boolean): void {
  const hint = sourceHint(path);
  if (hint !== undefined) throw usageError(`${printable(path)} is not made, as its name ends like a filter: ${hint}`);
  if (!hasFormat) checkRawName(path);
}

/** Refuses a new or empty file that {@link makeFile} could not make or fill. Changes nothing. */
async function checkCanBeFilled({ path, image, state }: TargetFile, { signal }: SourceOptions): Promise<void> {
  if (image !== undefined) for (const program of ['qemu-img', 'qemu-nbd'] as const) qemuProgram(program, path);
  if (state === 'empty') {
    await (await openPath(path, { readOnly: false, exclusive: image === undefined, signal, dryRun: true })).close();
    return;
  }
  await checkCanMake(path).catch((error: unknown) => {
    throw openError(path, error);
  });
}

/** Gives a new or empty file its content: zeroes, or an empty image. */
async function makeFile(
  { path, image, state }: TargetFile,
  size: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (image !== undefined) {
    await createImage(path, image, size, signal).catch((error: unknown) => {
      signal?.throwIfAborted();
      throw openError(path, error);
    });
    return;
  }
  try {
    const file = await open(path, state === 'empty' ? 'r+' : 'wx');
    try {
      await file.truncate(size);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (state === 'new') await rm(path, { force: true });
    throw openError(path, error);
  }
}

/**
 * Refuses a target that is a file of the source. Looked at later it would only have another size,
 * and the advice to delete it would cost the source.
 */
async function checkOtherFile(from: Source, target: Source): Promise<void> {
  const path = localPath(target);
  if (path === undefined) return;
  const there = await stat(path).catch(() => undefined);
  const files = from.words.flatMap(([name, value]) => (value !== undefined && isFileFilter(name) ? [value] : []));
  for (const file of [localPath(from), ...files]) {
    if (file === undefined) continue;
    const one = await stat(file).catch(() => undefined);
    // An overlay may not exist yet: a source that is only read makes none.
    const same = there && one ? one.dev === there.dev && one.ino === there.ino : resolve(file) === resolve(path);
    if (same) throw sameError(from.text, target.text);
  }
}

/** The error of a copy onto itself. Equal texts are wrong whatever is on the disk. */
export function sameError(from: string, to: string): FarbusError {
  const message = `${from} and ${to} are the same: give another place to copy to`;
  return from === to ? usageError(message) : new FarbusError(message);
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
