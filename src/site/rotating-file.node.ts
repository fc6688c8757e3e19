/** A file that is appended to and stays within a size: when it is full it becomes `FILE.1`, the one before is gone, and it begins anew. */
import { closeSync, constants, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { FarbusError, messageOf } from '../base/errors.js';

/** What the name of the older part ends with. */
export const olderPart = '.1';

export class RotatingFile {
  readonly #path: string;
  readonly #maxSize: number;
  /** Undefined while there is no file, as it could not be made. */
  #fd: number | undefined;
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
      this.#fd = openLog(path);
    } catch (error) {
      throw new FarbusError(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  /**
   * Appends bytes. Where the disk is full or the folder gone they are lost, which must not end the program that writes a
   * log. Each call tries anew, so that the log goes on when there is room again.
   */
  append(bytes: Uint8Array): void {
    try {
      if (this.#fd === undefined || (this.#size > 0 && this.#size + bytes.length > this.#maxSize)) this.#rotate();
      for (let at = 0; at < bytes.length;) {
        const done = writeSync(this.#fd!, bytes, at);
        this.#size += done;
        at += done;
      }
    } catch {
      // Lost.
    }
  }

  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) closeQuietly(fd);
  }

  /** Begins anew. A step that fails is done by the next call: without a descriptor there is nothing left to rename. */
  #rotate(): void {
    if (this.#fd !== undefined) {
      renameSync(this.#path, this.#path + olderPart);
      this.close();
    }
    this.#fd = openLog(this.#path);
    this.#size = 0;
  }
}

/** Empty. A link of that name is not followed. */
function openLog(path: string): number {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  return openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
}

/** Some file systems report a failed write only here: what is lost is a log's line. */
function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // Lost.
  }
}
