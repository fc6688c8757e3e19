/**
 * The variables of a computer's UEFI firmware, such as the boot order that its system has set, in a
 * file of the user's: a copy of the flash in which OVMF keeps them (UEFI Platform Initialization
 * 1.7, volume 3: a firmware volume).
 */
import { readFile } from 'node:fs/promises';
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
  #latest: Uint8Array | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string | undefined, content: Uint8Array, log: Logger) {
    this.#path = path;
    this.content = content;
    this.#log = log;
  }

  /**
   * Reads the variables from a file; those of `initial`, if there is no such file.
   * @param path undefined: they are forgotten at the end
   * @throws FarbusError if the file has other content
   */
  static async open(path: string | undefined, initial: Uint8Array, log: Logger): Promise<UefiVariables> {
    const found = path === undefined ? undefined : await read(path);
    if (
      found &&
      (found.length !== initial.length || found.toString('latin1', signatureAt, signatureAt + 4) !== signature)
    )
      throw new FarbusError(`${path!} has no variables of this UEFI firmware: give another file, or delete it`);
    return new UefiVariables(path, found ?? initial, log);
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
      .then(() => replaceFile(this.#path!, [copy], { durable: true }))
      .catch((error: unknown) => this.#log.log('warn', `cannot keep UEFI's variables: ${messageOf(error)}`));
  }
}

async function read(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new FarbusError(`cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}
