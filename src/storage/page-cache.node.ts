/**
 * Synchronous transfers between memory and the page cache, on the caller's thread: a call on the
 * thread pool costs more than copying a few pages. Linux with koffi only (linux/files.node.ts).
 *
 * Reads never wait for a disk: they use preadv2(2) with RWF_NOWAIT, or any read if the file system
 * is in memory (tmpfs). docs/notes/kernel.md, "Synchronous reads".
 *
 * Writes of whole pages to a file on a local disk normally do not wait either, but no system call
 * promises it: the kernel may delay a writer while too many pages are dirty or a journal is being
 * committed. So synchronous writes are tried only on known file systems and while no flush is in
 * flight; after a slow one, none is tried for fifty times its duration (back-off). Block devices,
 * and file systems on a network or in user space (possibly in this very process), are never written
 * this way.
 */
import fs from 'node:fs';
import type { FileCalls } from '../linux/files.node.js';
import { preemptedMs, sampleRunDelay } from './run-delay.node.js';

/** File system types of statfs(2) (linux/magic.h): ext2 to ext4, xfs, btrfs, f2fs. */
const localDisks: readonly number[] = [0xef53, 0x58465342, 0x9123683e, 0xf2f52010];
const tmpfs = 0x01021994;
/**
 * Page size in bytes. A write of a part of a page would first have to read the page from the disk.
 */
const page = 4096;
/** Longest synchronous transfer, in bytes: it blocks the event loop for less than 0.5 ms. */
export const maxAtOnce = 2 << 20;
/**
 * A write that took longer, without the time that the thread waited for a processor, has waited for
 * a disk. In ms.
 */
const longWrite = 8;
/** Back-off after a slow write, as a multiple of its duration. Chosen, not measured. */
const rest = 50;

export class PageCache {
  readonly #calls: FileCalls;
  readonly #fd: number;
  #read: 'cached' | 'memory' | 'never' = 'cached';
  readonly #writable: boolean;
  readonly #mappable: boolean;
  /** No synchronous write is tried before this time, in ms of performance.now(). */
  #notBefore = 0;
  #flushes = 0;

  /** @param regular true for a regular file, false for a block device */
  constructor(native: FileCalls, fd: number, regular: boolean) {
    this.#calls = native;
    this.#fd = fd;
    const type = regular ? fileSystemOf(fd) : 0;
    if (type === tmpfs) this.#read = 'memory';
    this.#writable = type === tmpfs || localDisks.includes(type);
    this.#mappable = this.#writable && mayWrite(fd);
  }

  /**
   * Reads the bytes that need no waiting into the beginning of `into`.
   * @returns their number; 0 for any error
   */
  read(into: Uint8Array, offset: number): number {
    if (this.#read === 'never') return 0;
    if (this.#read === 'memory') return Math.max(0, this.#calls.readHere(this.#fd, into, offset));
    const count = this.#calls.readCached(this.#fd, into, offset);
    if (count === undefined) this.#read = 'never';
    return count ?? 0;
  }

  /**
   * True if {@link write} can succeed: the file system is in memory or a known one on a local disk.
   */
  get writable(): boolean {
    return this.#writable;
  }

  /** True if {@link holds} can ever return true. */
  get mayHold(): boolean {
    return this.#mappable;
  }

  /**
   * True if the range is fully resident in the page cache. False where mincore(2) is unreliable.
   */
  holds(offset: number, length: number): boolean {
    return this.#mappable && this.#calls.resident(this.#fd, offset, length);
  }

  /**
   * Writes all of `from` synchronously.
   * @returns false if it must not be written here, or if only a part was written: write all of it
   * again in another way
   */
  write(from: Uint8Array, offset: number): boolean {
    const { length } = from;
    if (!this.#writable || this.#flushes > 0 || length > maxAtOnce || offset % page !== 0 || length % page !== 0) {
      return false;
    }
    const began = performance.now();
    if (began < this.#notBefore) return false;
    sampleRunDelay(began);
    const count = this.#calls.writeHere(this.#fd, from, offset);
    const took = performance.now() - began;
    // A thread that was only preempted has not waited for a disk.
    if (took > longWrite && took - preemptedMs() > longWrite) this.#notBefore = began + took * rest;
    return count === length;
  }

  /** Runs a flush. Synchronous writes are refused meanwhile, because they would wait for it. */
  async during(flush: () => Promise<void>): Promise<void> {
    this.#flushes++;
    try {
      await flush();
    } finally {
      this.#flushes--;
    }
  }
}

/**
 * True if this process may write the file. To others mincore(2) reports that every page is
 * resident (docs/notes/kernel.md, "Residency").
 */
function mayWrite(fd: number): boolean {
  try {
    fs.accessSync(`/proc/self/fd/${fd}`, fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The file system's type (statfs(2) f_type); 0 if it is unknown. */
function fileSystemOf(fd: number): number {
  try {
    return fs.statfsSync(`/proc/self/fd/${fd}`).type;
  } catch {
    return 0;
  }
}
