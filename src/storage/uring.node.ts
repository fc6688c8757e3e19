/**
 * Reads files by io_uring(7): one system call submits many reads, no read needs a thread of ours,
 * and the event loop watches an eventfd(2) that reports completions. A read that waits for a disk
 * costs a third of a read on a thread (docs/notes/kernel.md, "Cold reads").
 *
 * Linux with koffi only, and only if the kernel permits io_uring, which many containers do not.
 * Otherwise {@link Uring.here} is undefined and callers use threads. There is one ring for each
 * JavaScript thread.
 *
 * Not here: writes (docs/notes/kernel.md, "Buffered writes by io_uring"); the queues in memory
 * (linux/io-uring.node.ts).
 */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { SpinWait } from '../base/spin-wait.node.js';
import { koffi } from '../linux/koffi.node.js';
import {
  IORING_OP_FADVISE,
  IORING_OP_READ,
  IOSQE_ASYNC,
  IOSQE_IO_HARDLINK,
  Ring,
  type Entry,
} from '../linux/io-uring.node.js';

/** posix_fadvise(2): POSIX_FADV_WILLNEED. */
const WILLNEED = 3;
/** Most reads in flight. */
const entries = 256;
/** Entries of the submission queue: two for each read (advice and read). */
const places = 2 * entries;
/** So many queued reads are submitted immediately; fewer are submitted in the next microtask. */
const batch = 32;
/**
 * Longest spin wait for a disk, in ms: a fast disk answers in little more time than falling asleep
 * takes.
 */
const spinMs = 0.15;
/**
 * A read of at least this length is preceded by an advice, in bytes: it exceeds Linux's own
 * read-ahead.
 */
const longSize = 1 << 18;
/** Length of the end of a fetched range that is read, in bytes. */
const endSize = 4096;
/**
 * The user_data of an entry without a slot: its completion is ignored. A signed number of 32 bits.
 */
const noSlot = -1;
/**
 * The kernel sends a read to the disk within the submitting call, and waits there while the disk's
 * queue is full. So if more than `direct` reads are in flight, a kernel thread does it instead
 * (IOSQE_ASYNC). The same holds after a submission that took longer than `longMs` ms, for `rest`
 * times its duration (back-off). Chosen, not measured.
 */
const direct = 64;
const longMs = 4;
const rest = 50;
/** Calls that let the kernel do its pending work before the event loop continues. */
const rounds = 8;
/** Shortest read, in bytes: the engine may move the memory of a shorter array. */
const minLength = 256;

/** Temporary errors of io_uring_enter(2). */
const { EAGAIN, EBUSY, EINTR } = constants.errno;
const passing: readonly number[] = [EAGAIN, EBUSY, EINTR];

/** A read in flight. It keeps its memory alive. */
interface Pending {
  readonly into: Uint8Array;
  readonly done: (result: number) => void;
}

let tried = false;
let shared: Uring | undefined;

export class Uring {
  readonly #ring: Ring;
  readonly #watch: Socket;
  readonly #spin = new SpinWait(spinMs);
  readonly #pending: (Pending | undefined)[] = new Array<undefined>(entries).fill(undefined);
  readonly #free: number[] = Array.from({ length: entries }, (_, i) => i);
  /** Entries in the submission queue that have not been submitted. */
  #queued = 0;
  #scheduled = false;
  #retrying = false;
  /** Until this time kernel threads do the reads (IOSQE_ASYNC), in ms of performance.now(). */
  #indirectUntil = 0;
  /** True after a permanent error of io_uring_enter(2): no read is accepted any more. */
  #broken = false;

  private constructor(ring: Ring) {
    this.#ring = ring;
    this.#watch = ring.watch(() => this.#told());
    this.#watch.unref();
  }

  /** The ring of this thread; undefined if io_uring is not available. */
  static here(): Uring | undefined {
    if (!koffi()) return undefined;
    if (!tried) {
      tried = true;
      try {
        shared = new Uring(new Ring(places));
      } catch {
        // The kernel does not know or permit io_uring.
      }
    }
    return shared;
  }

  /**
   * Begins a read.
   * @param into memory that must not move until the read has ended
   * @param done receives the number of bytes read, 0 at the file's end, or a negative errno
   * @returns false if this ring cannot take the read: use a thread
   */
  read(fd: number, into: Uint8Array, offset: number, done: (result: number) => void): boolean {
    const { length } = into;
    const slot = this.#slot(into, done);
    if (slot === undefined) return false;
    // Let the kernel request all of a long read from the disk at once. Without the advice it
    // requests the next part when the last one has arrived.
    if (length >= longSize) this.#announce(fd, offset, length);
    this.#put({ operation: this.#operation(), fd, offset, length, into, tag: slot });
    this.#submitSoon();
    return true;
  }

  /**
   * Begins to load a range into the page cache, and reads its end: when that has arrived, the rest
   * usually has too.
   * @param done like {@link read}, for the bytes of the end
   * @returns false if this ring cannot take it
   */
  fetch(fd: number, offset: number, length: number, done: (result: number) => void): boolean {
    const end = new Uint8Array(Math.min(endSize, length));
    const slot = this.#slot(end, done);
    if (slot === undefined) return false;
    this.#announce(fd, offset, length);
    const at = offset + length - end.length;
    this.#put({ operation: this.#operation(), fd, offset: at, length: end.length, into: end, tag: slot });
    this.#submitSoon();
    return true;
  }

  #slot(into: Uint8Array, done: (result: number) => void): number | undefined {
    const slot = this.#broken || into.length < minLength ? undefined : this.#free.pop();
    if (slot !== undefined) this.#pending[slot] = { into, done };
    return slot;
  }

  #operation(): number {
    const straight = entries - this.#free.length <= direct && performance.now() >= this.#indirectUntil;
    return straight ? IORING_OP_READ : IORING_OP_READ | IOSQE_ASYNC;
  }

  #announce(fd: number, offset: number, length: number): void {
    const operation = IORING_OP_FADVISE | IOSQE_IO_HARDLINK;
    this.#put({ operation, fd, offset, length, advice: WILLNEED, tag: noSlot });
  }

  #submitSoon(): void {
    if (this.#free.length === entries - 1) this.#watch.ref();
    if (this.#queued >= batch) this.#submit();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#submitQueued);
    }
  }

  /** Queues an entry. There is always room: two entries for each slot. */
  #put(entry: Entry): void {
    this.#ring.put(entry);
    this.#queued++;
  }

  readonly #submitQueued = (): void => {
    this.#scheduled = false;
    this.#submit();
  };

  #submit(): void {
    if (this.#broken) return;
    const began = performance.now();
    while (this.#queued > 0) {
      const taken = this.#ring.enter(this.#queued);
      if (taken <= 0) {
        this.#refused(-taken);
        break;
      }
      this.#queued -= taken;
    }
    const took = performance.now() - began;
    if (took > longMs) this.#indirectUntil = began + took * rest;
    this.#reap();
    this.#work();
    if (this.#free.length < entries) this.#spin.sent();
  }

  /**
   * The kernel has refused the queued entries: retry after a temporary error, else give up for
   * good.
   */
  #refused(errno: number): void {
    if (errno === 0 || passing.includes(errno)) {
      if (!this.#retrying) setTimeout(this.#submitAgain, 1);
      this.#retrying = true;
      return;
    }
    this.#broken = true;
    // EAGAIN makes the callers read in another way.
    for (; this.#queued > 0; this.#queued--) this.#finish(this.#ring.tagOf(this.#queued), -EAGAIN);
  }

  readonly #submitAgain = (): void => {
    this.#retrying = false;
    this.#submit();
  };

  /** The eventfd has reported completions or work. */
  #told(): void {
    this.#ring.enter(0);
    this.#reap();
    this.#work();
  }

  /**
   * Lets the kernel do its pending work, with a pause for the event loop after every `rounds`
   * calls.
   */
  readonly #work = (): void => {
    for (let i = 0; !this.#broken && this.#ring.hasWork; i++) {
      if (i === rounds) {
        setImmediate(this.#work);
        return;
      }
      this.#ring.enter(0);
      this.#reap();
    }
  };

  #reap(): void {
    if (this.#ring.hasAnswer) this.#spin.arrived();
    while (this.#ring.take(this.#finish));
  }

  readonly #finish = (slot: number, result: number): void => {
    if (slot === noSlot) return;
    const pending = this.#pending[slot];
    this.#pending[slot] = undefined;
    this.#free.push(slot);
    if (this.#free.length === entries) this.#watch.unref();
    pending?.done(result);
  };
}
