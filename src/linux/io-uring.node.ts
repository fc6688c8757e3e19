/**
 * The submission and completion queue of io_uring(7) in shared memory, and the system calls on
 * them: struct io_uring_sqe in, struct io_uring_cqe out. Layout and numbers are those of
 * linux/io_uring.h.
 *
 * Not here: which operations are submitted, and who waits for them (storage/uring.node.ts).
 */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { createEvent, watchEvent } from './event.node.js';
import { requireKoffi, type Call } from './koffi.node.js';

const SYS_io_uring_setup = 425;
const SYS_io_uring_enter = 426;
const SYS_io_uring_register = 427;
const IORING_SETUP_TASKRUN_FLAG = 1 << 9;
const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
const IORING_SETUP_DEFER_TASKRUN = 1 << 13;
const IORING_FEAT_SINGLE_MMAP = 1;
const IORING_FEAT_NODROP = 2;
const IORING_SQ_TASKRUN = 1 << 2;
const IORING_ENTER_GETEVENTS = 1;
const IORING_REGISTER_EVENTFD = 4;
const IORING_OFF_SQES = 0x1000_0000;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_POPULATE = 0x8000;
const mapFailed = 0xffff_ffff_ffff_ffffn;
const sqeSize = 64;
const cqeSize = 16;

/**
 * Operations (low byte). {@link Entry.operation} also contains flags of the entry (the byte above).
 */
export const IORING_OP_READ = 22;
/** Flag: a thread of the kernel runs the operation; it is not tried within the call. */
export const IOSQE_ASYNC = 16 << 8;

/** An entry of the submission queue. */
export interface Entry {
  /** IORING_OP_… | IOSQE_… . */
  readonly operation: number;
  readonly fd: number;
  /** Offset in the file, in bytes. */
  readonly offset: number;
  /** Memory that must not move until the entry has completed. */
  readonly into: Uint8Array;
  /** Identifies the completion (user_data): a signed number of 32 bits. */
  readonly tag: number;
}

export class Ring {
  readonly #call: (submit: number) => number;
  readonly #addressOf: (bytes: Uint8Array) => bigint;
  readonly #rings: Int32Array;
  readonly #sqes: DataView;
  readonly #event: number;
  /** Places of the queues' fields in `#rings`: indices of 32-bit words. */
  readonly #sq: { readonly tail: number; readonly flags: number; readonly array: number; readonly mask: number };
  readonly #cq: { readonly head: number; readonly tail: number; readonly cqes: number; readonly mask: number };

  /**
   * @param places entries of the submission queue, a power of two; the completion queue has twice
   * as many
   * @throws Error if io_uring is not available: no koffi, another system, an old kernel, or a
   * kernel that forbids it
   */
  constructor(places: number) {
    const koffi = requireKoffi('io_uring');
    const library = koffi.load(null);
    const setup = library.func('int64_t syscall(long number, uint entries, void *parameters)') as Call;
    const enter = library.func(
      'int64_t syscall(long, int fd, uint submit, uint least, uint flags, void *, size_t)',
    ) as Call;
    const register = library.func('int64_t syscall(long, int fd, uint operation, void *argument, uint count)') as Call;
    const close = library.func('int close(int)') as Call;
    const mmap = library.func('void *mmap(void *, size_t length, int protection, int flags, int fd, int64_t offset)');

    // struct io_uring_params
    const parameters = new Uint32Array(30);
    parameters[2] = IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    let fd = Number(setup(SYS_io_uring_setup, places, parameters));
    if (fd < 0 && koffi.errno() === constants.errno.EINVAL) {
      // Kernels before Linux 6.1 do not know these flags.
      parameters.fill(0);
      fd = Number(setup(SYS_io_uring_setup, places, parameters));
    }
    if (fd < 0) throw new Error('this kernel has no io_uring, or forbids it');
    let event = -1;
    try {
      event = createEvent();
      this.#event = event;
      const wanted = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
      if ((parameters[5]! & wanted) !== wanted) throw new Error('this kernel is too old');
      const registered = register(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, Int32Array.of(event), 1);
      if (Number(registered) !== 0) throw new Error('no eventfd');
      this.#call = (submit) => {
        const taken = Number(enter(SYS_io_uring_enter, fd, submit, 0, IORING_ENTER_GETEVENTS, null, 0));
        return taken < 0 ? -koffi.errno() : taken;
      };
      // Try this call now: a sandbox may forbid it and allow the others.
      if (this.#call(0) < 0) throw new Error('io_uring_enter is forbidden');
      const map = (length: number, offset: number): ArrayBuffer => {
        const at: unknown = mmap(null, length, PROT_READ_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
        if (at === null || koffi.address(at) === mapFailed) throw new Error('no memory for a ring');
        return koffi.view(at, length);
      };
      const sq = (i: number): number => parameters[10 + i]!;
      const cq = (i: number): number => parameters[20 + i]!;
      const length = Math.max(sq(6) + parameters[0]! * 4, cq(5) + parameters[1]! * cqeSize);
      this.#rings = new Int32Array(map(length, 0));
      this.#sqes = new DataView(map(parameters[0]! * sqeSize, IORING_OFF_SQES));
      const word = (offset: number): number => this.#rings[offset / 4]!;
      this.#sq = { tail: sq(1) / 4, mask: word(sq(2)), flags: sq(4) / 4, array: sq(6) / 4 };
      this.#cq = { head: cq(0) / 4, tail: cq(1) / 4, mask: word(cq(2)), cqes: cq(5) / 4 };
    } catch (error) {
      if (event >= 0) close(event);
      close(fd);
      throw error;
    }
    this.#addressOf = (bytes) => koffi.address(bytes);
  }

  /** Puts an entry into the submission queue. The caller makes sure that there is room. */
  put({ operation, fd, offset, into, tag }: Entry): void {
    const { tail: place, mask, array } = this.#sq;
    const tail = this.#rings[place]!;
    const index = tail & mask;
    const at = index * sqeSize;
    const sqes = this.#sqes;
    // opcode, flags, ioprio; fd; off; addr; len; user_data; the rest stays zero.
    sqes.setUint32(at, operation, true);
    sqes.setInt32(at + 4, fd, true);
    sqes.setUint32(at + 8, offset % 0x1_0000_0000, true);
    sqes.setUint32(at + 12, Math.floor(offset / 0x1_0000_0000), true);
    sqes.setBigUint64(at + 16, this.#addressOf(into), true);
    sqes.setUint32(at + 24, into.length, true);
    sqes.setInt32(at + 32, tag, true);
    this.#rings[array + index] = index;
    Atomics.store(this.#rings, place, (tail + 1) | 0);
  }

  /** The tag of the entry that was put `back` entries ago; 1 is the last one. */
  tagOf(back: number): number {
    const index = (this.#rings[this.#sq.tail]! - back) & this.#sq.mask;
    return this.#sqes.getInt32(index * sqeSize + 32, true);
  }

  /**
   * io_uring_enter(2): submits `submit` entries and lets the kernel do its pending work in this
   * thread.
   * @returns the number of entries taken, or a negative errno
   */
  enter(submit: number): number {
    return this.#call(submit);
  }

  /**
   * True if the kernel has work left for this thread: one {@link enter} may do only a part, and the
   * eventfd does not report the rest.
   */
  get hasWork(): boolean {
    return (Atomics.load(this.#rings, this.#sq.flags) & IORING_SQ_TASKRUN) !== 0;
  }

  /** True if there is a completion. */
  get hasAnswer(): boolean {
    return this.#rings[this.#cq.head] !== Atomics.load(this.#rings, this.#cq.tail);
  }

  /**
   * Takes the next completion and passes the entry's tag and the operation's result (or a negative
   * errno) to `answer`.
   * @returns false if there is no completion
   */
  take(answer: (tag: number, result: number) => void): boolean {
    if (!this.hasAnswer) return false;
    const head = this.#rings[this.#cq.head]!;
    const at = this.#cq.cqes + (head & this.#cq.mask) * (cqeSize / 4);
    const tag = this.#rings[at]!;
    const result = this.#rings[at + 2]!;
    Atomics.store(this.#rings, this.#cq.head, (head + 1) | 0);
    answer(tag, result);
    return true;
  }

  /** Calls `told` whenever there are completions, or work for {@link enter}. */
  watch(told: () => void): Socket {
    return watchEvent(this.#event, told);
  }
}
