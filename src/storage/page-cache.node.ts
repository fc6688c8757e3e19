/**
 * Transfers that need no disk, on the caller's thread: a thread of the pool costs more than copying a few pages. Linux
 * with koffi only (libc.node.ts).
 *
 * Reads never wait: preadv2(2) with RWF_NOWAIT, or any read where the file system is memory (tmpfs). Writes of whole pages
 * to a file on a local disk normally wait for nothing either, but no call promises it: the kernel may hold up a writer
 * while too much is unwritten or a journal is being committed. So they are tried only on file systems that are
 * known, while no flush is under way, and after one that took long only when fifty times as long has passed. Devices
 * and file systems on a network or in user space (which may be this very process) are not written this way.
 */
import fs from 'node:fs';
import type { Libc } from './libc.node.js';

/** statfs(2), linux/magic.h: ext2 to ext4, xfs, btrfs, f2fs. */
const localDisks: readonly number[] = [0xef53, 0x58465342, 0x9123683e, 0xf2f52010];
const tmpfs = 0x01021994;
/** A transfer is not held up by reading around it if it is of whole pages. Largest in use, in bytes. */
const page = 4096;
/** Most that is copied at once, in bytes: the event loop is held up for less than half a millisecond. */
export const maxAtOnce = 2 << 20;
/** Longer than this was waiting for a disk, in ms: more than another thread's turn on this processor. */
const longWrite = 8;
/** How many times as long as a long write nothing is tried. */
const rest = 50;

export class PageCache {
  readonly #libc: Libc;
  readonly #fd: number;
  #read: 'cached' | 'memory' | 'never' = 'cached';
  readonly #writable: boolean;
  readonly #mappable: boolean;
  #notBefore = 0;
  #flushes = 0;

  /** @param regular Whether it is a regular file. */
  constructor(native: Libc, fd: number, regular: boolean) {
    this.#libc = native;
    this.#fd = fd;
    const type = regular ? fileSystemOf(fd) : 0;
    if (type === tmpfs) this.#read = 'memory';
    this.#writable = type === tmpfs || localDisks.includes(type);
    this.#mappable = this.#writable && mayWrite(fd);
  }

  /** Reads into the beginning of `into` what can be had at once. @returns how many bytes; 0 for any error */
  read(into: Uint8Array, offset: number): number {
    if (this.#read === 'never') return 0;
    if (this.#read === 'memory') return Math.max(0, this.#libc.readHere(this.#fd, into, offset));
    const count = this.#libc.readCached(this.#fd, into, offset);
    if (count === undefined) this.#read = 'never';
    return count ?? 0;
  }

  /** Whether the file system is a known one of memory or of a local disk: {@link write} can succeed. */
  get writable(): boolean {
    return this.#writable;
  }

  /** Whether {@link holds} can ever be true. */
  get mayHold(): boolean {
    return this.#mappable;
  }

  /** Whether a range of a regular file is in the page cache, all of it, and nobody has to be asked who would not say. */
  holds(offset: number, length: number): boolean {
    return this.#mappable && this.#libc.resident(this.#fd, offset, length);
  }

  /** Writes all of `from`. @returns false where that is not to be done here, or not all was taken: write it all again */
  write(from: Uint8Array, offset: number): boolean {
    const { length } = from;
    if (!this.#writable || this.#flushes > 0 || length > maxAtOnce || offset % page !== 0 || length % page !== 0) {
      return false;
    }
    const began = performance.now();
    if (began < this.#notBefore) return false;
    const count = this.#libc.writeHere(this.#fd, from, offset);
    const took = performance.now() - began;
    if (took > longWrite) this.#notBefore = began + took * rest;
    return count === length;
  }

  /** Runs a flush; meanwhile writes would have to wait for it. */
  async during(flush: () => Promise<void>): Promise<void> {
    this.#flushes++;
    try {
      await flush();
    } finally {
      this.#flushes--;
    }
  }
}

/** mincore(2) says what is so only to who could write the file; to others it says that everything is there. */
function mayWrite(fd: number): boolean {
  try {
    fs.accessSync(`/proc/self/fd/${fd}`, fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** statfs(2) f_type; 0 where it cannot be had. */
function fileSystemOf(fd: number): number {
  try {
    return fs.statfsSync(`/proc/self/fd/${fd}`).type;
  } catch {
    return 0;
  }
}
