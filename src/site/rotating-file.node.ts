/** A file that is appended to and stays within a size: when it is full it becomes `FILE.1`, the one before is gone, and it begins anew. */
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { FarbusError, messageOf } from '../base/errors.js';

/** What the name of the older part ends with. */
export const olderPart = '.1';

export class RotatingFile {
  readonly #path: string;
  readonly #maxSize: number;
  #fd: number;
  #size = 0;

  /**
   * Makes the file, empty, without an older part.
   * @param maxSize Longest file, in bytes: with its older part it takes twice that.
   * @throws FarbusError
   */
  constructor(path: string, maxSize: number) {
    this.#path = path;
    this.#maxSize = maxSize;
    try {
      rmSync(path + olderPart, { force: true });
      this.#fd = openSync(path, 'w', 0o600);
    } catch (error) {
      throw new FarbusError(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Appends bytes. Where the disk is full or the folder gone, they are lost: that is no reason to end what writes a log. */
  append(bytes: Uint8Array): void {
    try {
      if (this.#size > 0 && this.#size + bytes.length > this.#maxSize) this.#rotate();
      this.#size += writeSync(this.#fd, bytes);
    } catch {
      // Lost.
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    renameSync(this.#path, this.#path + olderPart);
    const full = this.#fd;
    this.#fd = openSync(this.#path, 'w', 0o600);
    this.#size = 0;
    closeSync(full);
  }
}
