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
import { IORING_OP_READ, IOSQE_ASYNC, Ring } from '../linux/io-uring.node.js';

/** Most reads in flight, which is the size of the submission queue. */
const entries = 256;
/** So many queued reads are submitted immediately; fewer are submitted in the next microtask. */
const batch = 32;
/**
 * Longest spin wait for a disk, in ms: a fast disk answers in little more time than falling asleep
 * takes.
 */
const spinMs = 0.15;
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
        shared = new Uring(new Ring(entries));
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
    const slot = this.#broken || into.length < minLength ? undefined : this.#free.pop();
    if (slot === undefined) return false;
    this.#pending[slot] = { into, done };
    const straight = entries - this.#free.length <= direct && performance.now() >= this.#indirectUntil;
    const operation = straight ? IORING_OP_READ : IORING_OP_READ | IOSQE_ASYNC;
    this.#ring.put({ operation, fd, offset, into, tag: slot });
    this.#queued++;
    this.#submitSoon();
    return true;
  }

  #submitSoon(): void {
    if (this.#free.length === entries - 1) this.#watch.ref();
    if (this.#queued >= batch) this.#submit();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#submitQueued);
    }
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
    const pending = this.#pending[slot];
    this.#pending[slot] = undefined;
    this.#free.push(slot);
    if (this.#free.length === entries) this.#watch.unref();
    pending?.done(result);
  };
}
