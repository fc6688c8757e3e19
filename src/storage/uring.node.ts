/**
 * Reads of files by io_uring(7): many are asked for with one call, none of them takes a thread of ours, and an eventfd(2) that
 * the event loop watches tells when some have ended. A read that has to wait for a disk costs a third of what it costs with
 * a thread. Linux with koffi only, and only where the kernel lets processes have it (many containers do not):
 * {@link Uring.here} says so, and threads do the same.
 *
 * One ring for each thread of JavaScript. Left out: all but reads, since buffered writes are handed to a thread of the kernel's
 * by most file systems anyway.
 */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { Vigil } from '../base/vigil.node.js';
import {
  IORING_OP_FADVISE,
  IORING_OP_READ,
  IOSQE_ASYNC,
  IOSQE_IO_HARDLINK,
  Ring,
  type Entry,
} from './uring-queues.node.js';

/** posix_fadvise(2): POSIX_FADV_WILLNEED. */
const WILLNEED = 3;
/** Reads that may be under way. */
const entries = 256;
/** Places in the submission queue: two for each read. */
const places = 2 * entries;
/** Reads that are asked for at once, whoever comes next. */
const batch = 32;
/** How long a wait for a disk is spent awake at most, in ms: fast ones answer in little more than falling asleep takes. */
const vigilMs = 0.15;
/** From this length on a read is announced before, in bytes: more than Linux reads ahead by itself. */
const longSize = 1 << 18;
/** Of a range that is fetched, the end that is read, in bytes. */
const endSize = 4096;
/** The user_data of what nobody waits for; read back as it is written, a signed number of 32 bits. */
const noSlot = -1;
/**
 * The kernel sends a read to the disk within the call that asks for it, and waits there while the disk's own queue is full.
 * So no more than this many are asked for so; and where that has taken as long as `longMs`, in ms, nothing is for `rest` times
 * as long: the kernel's threads ask then.
 */
const direct = 64;
const longMs = 4;
const rest = 50;
/** How often the kernel is let do what it has to do before others have a turn. */
const rounds = 8;
/** Shorter memory may be moved by the engine, in bytes. */
const minLength = 256;

/** Errors of io_uring_enter(2) that pass. */
const { EAGAIN, EBUSY, EINTR } = constants.errno;
const passing: readonly number[] = [EAGAIN, EBUSY, EINTR];

/** One read: what it is to be told, and its memory, which must live as long. */
interface Pending {
  readonly into: Uint8Array;
  readonly done: (result: number) => void;
}

let tried = false;
let shared: Uring | undefined;

export class Uring {
  readonly #ring: Ring;
  readonly #watch: Socket;
  readonly #vigil = new Vigil(vigilMs);
  readonly #pending: (Pending | undefined)[] = new Array<undefined>(entries).fill(undefined);
  readonly #free: number[] = Array.from({ length: entries }, (_, i) => i);
  /** Reads in the submission queue that the kernel has not been told of. */
  #queued = 0;
  #scheduled = false;
  #retrying = false;
  /** Until when the kernel's threads ask the disk, in ms of performance.now(). */
  #indirectUntil = 0;
  /** The kernel takes nothing more. */
  #broken = false;

  private constructor(ring: Ring) {
    this.#ring = ring;
    this.#watch = ring.watch(() => this.#told());
    this.#watch.unref();
  }

  /** The ring of this thread; undefined where there is none to be had. */
  static here(): Uring | undefined {
    if (!tried) {
      tried = true;
      try {
        if (!process.env['FARBUS_NO_KOFFI']) shared = new Uring(new Ring(places));
      } catch {
        // Not installed, not known to this kernel, or not allowed.
      }
    }
    return process.env['FARBUS_NO_KOFFI'] ? undefined : shared;
  }

  /**
   * Begins to read.
   * @param into Must stay where it is until the read is over.
   * @param done Called with the bytes read, 0 at the file's end, or a negative errno.
   * @returns false where that is not to be done here
   */
  read(fd: number, into: Uint8Array, offset: number, done: (result: number) => void): boolean {
    const { length } = into;
    const slot = this.#slot(into, done);
    if (slot === undefined) return false;
    // The disk is told of all of a long read at once; by itself it is told of the next part when the last has come.
    if (length >= longSize) this.#announce(fd, offset, length);
    this.#put({ operation: this.#operation(), fd, offset, length, into, tag: slot });
    this.#submitSoon();
    return true;
  }

  /**
   * Begins to bring a range into the page cache, and reads the end of it: where that is, the rest usually is.
   * @param done As {@link read} has it.
   * @returns false where that is not to be done here
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

  /** There is room in the queue for two entries for each slot. */
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
    if (this.#free.length < entries) this.#vigil.sent();
  }

  /** The kernel does not take what is queued: for want of memory, which passes, or for good. */
  #refused(errno: number): void {
    if (errno === 0 || passing.includes(errno)) {
      if (!this.#retrying) setTimeout(this.#submitAgain, 1);
      this.#retrying = true;
      return;
    }
    this.#broken = true;
    // Whoever asked for it does it otherwise.
    for (; this.#queued > 0; this.#queued--) this.#finish(this.#ring.tagOf(this.#queued), -EAGAIN);
  }

  readonly #submitAgain = (): void => {
    this.#retrying = false;
    this.#submit();
  };

  /** The eventfd has been written to. */
  #told(): void {
    this.#ring.enter(0);
    this.#reap();
    this.#work();
  }

  /** Lets the kernel do what it has left. */
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
    if (this.#ring.hasAnswer) this.#vigil.arrived();
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
