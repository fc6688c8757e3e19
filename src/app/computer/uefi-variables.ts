/**
 * The variables of a computer's UEFI firmware, such as the boot order that its system has set, in a
 * file of the user's: a copy of the flash in which OVMF keeps them (UEFI Platform Initialization
 * 1.7, volume 3: a firmware volume).
 *
 * Two computers must not use one file: each would overwrite the variables of the other. So a file
 * that another program has changed since it was read or written here is left as it is.
 */
import { constants, type BigIntStats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { FarbusError, errnoOf, messageOf } from '../../base/errors.js';
import { replaceFile } from '../../base/files.node.js';
import type { Logger } from '../../base/log.js';
import type { FirmwareVariables } from '../../machine/engine.js';
import type { Source } from '../source-text.js';

/** Time from a change to writing the file, in ms. The firmware makes many changes one by one. */
const delayMs = 1000;
/** Place of the signature of a firmware volume. */
const signatureAt = 40;
const signature = '_FVH';

/** The file beside the overlay of the first drive that has one; undefined if there is none. */
export function variablesBeside(sources: readonly Source[]): string | undefined {
  const overlay = sources.flatMap(({ words }) => words.filter(([name]) => name === 'overlay'))[0]?.[1];
  return overlay === undefined ? undefined : `${overlay}.uefi-vars`;
}

export class UefiVariables implements FirmwareVariables {
  readonly content: Uint8Array;
  readonly #path: string | undefined;
  readonly #log: Logger;
  /** The file as it was read or written here last; '' if there was none. */
  #version: string;
  #latest: Uint8Array | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string | undefined, content: Uint8Array, version: string, log: Logger) {
    this.#path = path;
    this.#version = version;
    this.content = content;
    this.#log = log;
  }

  /**
   * Reads the variables from a file; those of `initial`, if there is no such file.
   * @param path undefined: they are forgotten at the end
   * @throws FarbusError if the file has other content
   */
  static async open(path: string | undefined, initial: Uint8Array, log: Logger): Promise<UefiVariables> {
    const found = path === undefined ? undefined : await read(path, initial.length);
    return new UefiVariables(path, found?.content ?? initial, found?.version ?? '', log);
  }

  changed(content: Uint8Array): void {
    this.#latest = content;
    if (this.#path === undefined) return;
    this.#timer ??= setTimeout(() => this.#save(), delayMs);
  }

  /** Writes the last changes. */
  async close(): Promise<void> {
    if (this.#timer !== undefined) this.#save();
    await this.#writing;
  }

  #save(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const copy = Uint8Array.from(this.#latest!);
    this.#writing = this.#writing
      .then(() => this.#replace(this.#path!, copy))
      .catch((error: unknown) => this.#log.log('warn', `cannot keep UEFI's variables: ${messageOf(error)}`));
  }

  async #replace(path: string, content: Uint8Array): Promise<void> {
    const found = await versionAt(path);
    if (found !== '' && found !== this.#version)
      throw new FarbusError(`another computer or program has changed ${path}: give each computer a file of its own`);
    await replaceFile(path, [content], { durable: true });
    this.#version = await versionAt(path);
  }
}

/** Distinguishes the versions of the file at `path`; '' if there is none. */
async function versionAt(path: string): Promise<string> {
  try {
    return versionOf(await stat(path, { bigint: true }));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

function versionOf({ dev, ino, mtimeNs }: BigIntStats): string {
  return [dev, ino, mtimeNs].join();
}

/** The file's content, if there is one. @throws FarbusError if it cannot be such a file */
async function read(path: string, length: number): Promise<{ content: Buffer; version: string } | undefined> {
  const unfit = new FarbusError(`${path} has no variables of this UEFI firmware: give another file, or delete it`);
  try {
    // Without O_NONBLOCK, opening a named pipe waits for a writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const found = await file.stat({ bigint: true });
      if (!found.isFile() || found.size !== BigInt(length)) throw unfit;
      const content = Buffer.alloc(length);
      const { bytesRead } = await file.read(content, 0, length, 0);
      if (bytesRead !== length || content.toString('latin1', signatureAt, signatureAt + 4) !== signature) throw unfit;
      return { content, version: versionOf(found) };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (error instanceof FarbusError) throw error;
    throw new FarbusError(`cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}
