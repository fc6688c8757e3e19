/**
 * An append-only file of bounded size. When it is full, it is renamed to `FILE.1`, replacing the
 * previous one, and a new file starts.
 */
import { closeSync, constants, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { FarbusError, messageOf } from '../base/errors.js';

/** Suffix of the older part. */
export const olderPart = '.1';

/** A file that keeps the latest bytes appended to it, between `maxSize` and twice that. */
export class RotatingFile {
  readonly #path: string;
  readonly #maxSize: number;
  /** Undefined if the file could not be created. */
  #fd: number | undefined;
  #size = 0;

  /**
   * Creates the file, empty, and removes an older part.
   * @param maxSize Maximum size of one part in bytes; the two parts take twice that.
   * @throws FarbusError if the file cannot be created
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
   * Appends bytes. If the disk is full or the folder is gone, the bytes are lost, because a log
   * error must not end the program. Each call tries again, so the log continues when there is
   * room.
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
      // The bytes are lost; see above.
    }
  }

  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) closeQuietly(fd);
  }

  /**
   * Starts a new part. If a step fails, the next call continues there: without a descriptor only
   * opening the file is left.
   */
  #rotate(): void {
    if (this.#fd !== undefined) {
      renameSync(this.#path, this.#path + olderPart);
      this.close();
    }
    this.#fd = openLog(this.#path);
    this.#size = 0;
  }
}

/** Opens the file and empties it. Does not follow a symbolic link. */
function openLog(path: string): number {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  return openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
}

/**
 * Closes the file and ignores errors. Some file systems report a failed write only here; that loses
 * a log line.
 */
function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // The bytes are lost; see above.
  }
}
