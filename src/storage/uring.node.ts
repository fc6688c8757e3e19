/**
 * Reads of files by io_uring(7): many are asked for with one call, none of them takes a thread, and an eventfd(2) that
 * the event loop watches tells when some have ended. A read that has to wait for a disk costs a third of what it costs with
 * a thread. Linux with koffi only, and only where the kernel lets processes have it (many containers do not):
 * {@link Uring.here} says so, and threads do the same.
 *
 * One ring for each thread of JavaScript. Layout and numbers are those of linux/io_uring.h. Left out: all but reads, since
 * buffered writes are handed to a kernel thread by most file systems anyway.
 */
import { connect, Socket, type SocketConstructorOpts } from 'node:net';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { Vigil } from '../base/vigil.node.js';

/** System calls' numbers, the same on x86-64 and arm64. */
const SYS_io_uring_setup = 425;
const SYS_io_uring_enter = 426;
const SYS_io_uring_register = 427;
const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
const IORING_SETUP_DEFER_TASKRUN = 1 << 13;
const IORING_FEAT_SINGLE_MMAP = 1;
const IORING_FEAT_NODROP = 2;
const IORING_ENTER_GETEVENTS = 1;
const IORING_REGISTER_EVENTFD = 4;
const IORING_OFF_SQES = 0x1000_0000;
const IORING_OP_READ = 22;
const IORING_OP_FADVISE = 24;
/** In the byte after the operation: the next begins when this one is over, however it ends. */
const IOSQE_IO_HARDLINK = 8 << 8;
/** POSIX_FADV_WILLNEED. */
const WILLNEED = 3;
const EFD_CLOEXEC_NONBLOCK = 0o2004000;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_POPULATE = 0x8000;
const sqeSize = 64;
const cqeSize = 16;

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

type Call = (...args: unknown[]) => number;

interface Ring {
  /** io_uring_enter(2): submits, and runs what the kernel has to do in this thread. The number taken, or a negative errno. */
  enter(submit: number): number;
  addressOf(bytes: Uint8Array): bigint;
  /** The submission and the completion queue's heads, tails and masks. */
  readonly rings: Int32Array;
  readonly sqTail: number;
  readonly sqMask: number;
  readonly sqArray: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly cqMask: number;
  readonly cqes: number;
  readonly sqes: DataView;
  readonly event: number;
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
  /** The kernel takes nothing more. */
  #broken = false;

  private constructor(ring: Ring, watch: (told: () => void) => Socket) {
    this.#ring = ring;
    this.#watch = watch(() => this.#told());
    this.#watch.unref();
  }

  /** The ring of this thread; undefined where there is none to be had. */
  static here(): Uring | undefined {
    if (!tried) {
      tried = true;
      try {
        const ring = open();
        if (ring) shared = new Uring(ring, (told) => watchEvent(ring.event, told));
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
    this.#queue(IORING_OP_READ, fd, offset, this.#ring.addressOf(into), length, 0, slot);
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
    this.#queue(IORING_OP_READ, fd, offset + length - end.length, this.#ring.addressOf(end), end.length, 0, slot);
    this.#submitSoon();
    return true;
  }

  #slot(into: Uint8Array, done: (result: number) => void): number | undefined {
    const slot = this.#broken || into.length < minLength ? undefined : this.#free.pop();
    if (slot !== undefined) this.#pending[slot] = { into, done };
    return slot;
  }

  #announce(fd: number, offset: number, length: number): void {
    this.#queue(IORING_OP_FADVISE | IOSQE_IO_HARDLINK, fd, offset, 0n, length, WILLNEED, noSlot);
  }

  #submitSoon(): void {
    if (this.#free.length === entries - 1) this.#watch.ref();
    if (this.#queued >= batch) this.#submit();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#submitQueued);
    }
  }

  /** Puts a struct io_uring_sqe into the queue, in which there is room for two for each slot. */
  #queue(
    operation: number,
    fd: number,
    offset: number,
    address: bigint,
    length: number,
    advice: number,
    slot: number,
  ): void {
    const { rings, sqTail, sqMask, sqArray, sqes } = this.#ring;
    const tail = rings[sqTail]!;
    const index = tail & sqMask;
    const at = index * sqeSize;
    // opcode, flags, ioprio; fd; off; addr; len; rw_flags or advice; user_data; the rest stays zero.
    sqes.setUint32(at, operation, true);
    sqes.setInt32(at + 4, fd, true);
    sqes.setUint32(at + 8, offset % 0x1_0000_0000, true);
    sqes.setUint32(at + 12, Math.floor(offset / 0x1_0000_0000), true);
    sqes.setBigUint64(at + 16, address, true);
    sqes.setUint32(at + 24, length, true);
    sqes.setUint32(at + 28, advice, true);
    sqes.setInt32(at + 32, slot, true);
    rings[sqArray + index] = index;
    Atomics.store(rings, sqTail, (tail + 1) | 0);
    this.#queued++;
  }

  readonly #submitQueued = (): void => {
    this.#scheduled = false;
    this.#submit();
  };

  #submit(): void {
    while (this.#queued > 0) {
      const taken = this.#ring.enter(this.#queued);
      if (taken <= 0) {
        this.#refused(-taken);
        break;
      }
      this.#queued -= taken;
    }
    this.#reap();
    if (this.#free.length < entries) this.#vigil.sent();
  }

  /** The kernel does not take what is queued: for want of memory, which passes, or for good. */
  #refused(errno: number): void {
    if (errno === 0 || passing.includes(errno)) {
      setTimeout(this.#submitQueued, 1);
      return;
    }
    this.#broken = true;
    const { rings, sqTail, sqMask, sqes } = this.#ring;
    for (; this.#queued > 0; this.#queued--) {
      const index = (rings[sqTail]! - this.#queued) & sqMask;
      this.#finish(sqes.getInt32(index * sqeSize + 32, true), -errno);
    }
  }

  /** The eventfd has been written to. */
  #told(): void {
    this.#ring.enter(0);
    this.#reap();
  }

  #reap(): void {
    const { rings, cqHead, cqTail, cqMask, cqes } = this.#ring;
    let head = rings[cqHead]!;
    if (head !== Atomics.load(rings, cqTail)) this.#vigil.arrived();
    while (head !== Atomics.load(rings, cqTail)) {
      const at = cqes + (head & cqMask) * (cqeSize / 4);
      const slot = rings[at]!;
      const result = rings[at + 2]!;
      head = (head + 1) | 0;
      Atomics.store(rings, cqHead, head);
      this.#finish(slot, result);
    }
  }

  #finish(slot: number, result: number): void {
    if (slot === noSlot) return;
    const pending = this.#pending[slot];
    this.#pending[slot] = undefined;
    this.#free.push(slot);
    if (this.#free.length === entries) this.#watch.unref();
    pending?.done(result);
  }
}

function open(): Ring | undefined {
  const known = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
  if (!known || process.env['FARBUS_NO_KOFFI']) return undefined;
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const library = koffi.load(null);
  const setup = library.func('int64_t syscall(long number, uint entries, void *parameters)') as Call;
  const enter = library.func(
    'int64_t syscall(long, int fd, uint submit, uint least, uint flags, void *, size_t)',
  ) as Call;
  const register = library.func('int64_t syscall(long, int fd, uint operation, void *argument, uint count)') as Call;
  const eventfd = library.func('int eventfd(uint value, int flags)') as Call;
  const close = library.func('int close(int)') as Call;
  const mmap = library.func('void *mmap(void *, size_t length, int protection, int flags, int fd, int64_t offset)');

  // struct io_uring_params
  const parameters = new Uint32Array(30);
  parameters[2] = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  let fd = Number(setup(SYS_io_uring_setup, places, parameters));
  if (fd < 0 && koffi.errno() === constants.errno.EINVAL) {
    parameters.fill(0);
    fd = Number(setup(SYS_io_uring_setup, places, parameters));
  }
  if (fd < 0) return undefined;
  const wanted = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
  const event = (parameters[5]! & wanted) === wanted ? eventfd(0, EFD_CLOEXEC_NONBLOCK) : -1;
  const registered =
    event >= 0 && register(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, Int32Array.of(event), 1);
  if (event < 0 || registered !== 0) {
    if (event >= 0) close(event);
    close(fd);
    return undefined;
  }
  const sqEntries = parameters[0]!;
  const cqEntries = parameters[1]!;
  const sqOffset = (i: number): number => parameters[10 + i]!;
  const cqOffset = (i: number): number => parameters[20 + i]!;
  const map = (length: number, offset: number): ArrayBuffer => {
    const flags = MAP_SHARED | MAP_POPULATE;
    const at: unknown = mmap(null, length, PROT_READ_WRITE, flags, fd, offset);
    if (at === null || koffi.address(at) === 0xffff_ffff_ffff_ffffn) throw new Error('no memory for a ring');
    return koffi.view(at, length);
  };
  const length = Math.max(sqOffset(6) + sqEntries * 4, cqOffset(5) + cqEntries * cqeSize);
  const rings = new Int32Array(map(length, 0));
  const sqes = new DataView(map(sqEntries * sqeSize, IORING_OFF_SQES));
  return {
    enter: (submit) => {
      const taken = Number(enter(SYS_io_uring_enter, fd, submit, 0, IORING_ENTER_GETEVENTS, null, 0));
      return taken < 0 ? -koffi.errno() : taken;
    },
    addressOf: (bytes) => koffi.address(bytes),
    rings,
    sqTail: sqOffset(1) / 4,
    sqMask: rings[sqOffset(2) / 4]!,
    sqArray: sqOffset(6) / 4,
    cqHead: cqOffset(0) / 4,
    cqTail: cqOffset(1) / 4,
    cqMask: rings[cqOffset(2) / 4]!,
    cqes: cqOffset(5) / 4,
    sqes,
    event,
  };
}

interface Handle {
  open(fd: number): number;
}

/** Calls `told` whenever the eventfd has been written to. Node makes no socket of one, but its handles of pipes read any. */
function watchEvent(fd: number, told: () => void): Socket {
  const Pipe = pipeClass();
  const handle = new Pipe(0);
  const error = handle.open(fd);
  if (error !== 0) throw new Error('the event cannot be watched');
  const buffer = new Uint8Array(8);
  const onread = { buffer, callback: () => (told(), true) };
  const options = { handle, onread, readable: true, writable: false };
  const socket = new Socket(options as unknown as SocketConstructorOpts);
  socket.on('error', () => undefined);
  socket.resume();
  return socket;
}

type PipeClass = new (type: number) => Handle;

/** The class of Node's handles of pipes, which is that of any unused socket for a path. */
function pipeClass(): PipeClass {
  const socket = connect({ path: '/' });
  socket.on('error', () => undefined);
  const { _handle: handle } = socket as unknown as { readonly _handle?: object | null };
  socket.destroy();
  if (!handle) throw new Error('no handle');
  return handle.constructor as PipeClass;
}
