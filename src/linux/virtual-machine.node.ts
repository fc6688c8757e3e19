/**
 * System calls for running virtual machines: ioctl(2), mmap(2), madvise(2), and a signal that makes
 * a thread leave a system call: sigaction(2), tgkill(2), timer_create(2). They run on the caller's
 * thread.
 *
 * Not here: the requests of KVM (machine/engines/kvm/abi.ts).
 */
import { requireKoffi, type Call } from './koffi.node.js';
import { systemError } from './system-error.node.js';

/** mmap(2). */
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
/** Size of a huge page on x86-64. */
const hugePage = 2 ** 21;
const mapFailed = 0xffff_ffff_ffff_ffffn;
/** Distance of the parts of a {@link MemoryBlock}. koffi makes no view of much more than 2 GiB. */
const partStep = 2 ** 30;
/** Numbers of system calls on x86-64. */
const SYS_gettid = 186;
const SYS_timer_create = 222;
const SYS_timer_settime = 223;
const SYS_timer_delete = 226;
const SYS_tgkill = 234;
const CLOCK_MONOTONIC = 1;
const SIGEV_THREAD_ID = 4;
/** Period of the signals of a timer, in ms: one may arrive just before the call that it is for. */
const signalPeriodMs = 10;
/** A real-time signal that neither Node nor the C library uses. */
const kickSignal = 40;
/** struct sigaction of glibc on x86-64: handler, mask of 128 bytes, flags, restorer. */
const sigactionSize = 152;

/**
 * Memory outside of JavaScript's heap, at a multiple of the size of a huge page. Its parts are
 * plain ArrayBuffers, because V8 copies to and from shared ones by single words, in twice the time
 * (measured: 256 pages of 4 KiB in 26 µs and in 50 µs). It ends when no part of it is reachable any
 * more.
 */
export interface MemoryBlock {
  /** Address of the first byte in this process. */
  readonly address: bigint;
  /** `[start, end)` of the block, a part every `step` bytes. Parts overlap. */
  readonly parts: readonly ArrayBuffer[];
  /** Distance of the starts of two parts in bytes; a part is up to twice as long. */
  readonly step: number;
  /** Asks the kernel for huge pages. It may have none. */
  preferHugePages(): void;
  /** Gives the pages back. The block is all zeros then. */
  discard(): void;
}

/** All calls throw an error with an errno `code`. */
export interface MachineCalls {
  /** ioctl(2) with a number as its argument. */
  control(fd: number, request: number, value: number): number;
  /** ioctl(2) with memory as its argument, which is read and written in place. */
  exchange(fd: number, request: number, memory: Uint8Array): number;
  /** Maps `length` bytes of a file, shared. */
  map(fd: number, length: number): Uint8Array;
  /** Reserves `length` bytes that are zero; the kernel gives pages as they are used. */
  reserve(length: number): MemoryBlock;
  /** Ends a mapping. An access to its memory would end the process. */
  unmap(memory: Uint8Array): void;
  /** Address of the first byte in this process. */
  addressOf(memory: Uint8Array): bigint;
  /** Thread id of the caller. */
  threadId(): number;
  /** Makes another thread of this process leave its system call with EINTR. */
  kick(thread: number): void;
  /** Prepares this process for {@link kick} and {@link interruptAfter}. */
  armKick(): void;
  /**
   * After `ms` ms, makes this thread leave its system calls with EINTR, until the returned function
   * is called.
   */
  interruptAfter(ms: number): () => void;
}

let bound: MachineCalls | undefined;

/**
 * The calls, bound at first use.
 * @throws FarbusError if koffi is not available
 */
export function machineCalls(): MachineCalls {
  return (bound ??= bind());
}

function bind(): MachineCalls {
  const koffi = requireKoffi('the KVM engine');
  const libc = koffi.load(null);
  const ioctlNumber = libc.func('int ioctl(int, ulong, uintptr_t)') as Call;
  const ioctlMemory = libc.func('int ioctl(int, ulong, void *)') as Call;
  const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)') as (...args: unknown[]) => bigint;
  const munmap = libc.func('int munmap(void *, size_t)') as Call;
  const unmapAddress = libc.func('int munmap(uintptr_t, size_t)') as Call;
  const madvise = libc.func('int madvise(uintptr_t, size_t, int)') as Call;
  const syscall = libc.func('long syscall(long, long, long, long)') as Call;
  const createTimer = libc.func('long syscall(long, long, void *, void *)') as Call;
  const setTimer = libc.func('long syscall(long, long, long, void *, void *)') as Call;
  const sigaction = libc.func('int sigaction(int, void *, void *)') as Call;
  const check = (call: string, result: number): number => {
    if (result < 0) throw systemError(call, koffi.errno());
    return result;
  };
  const blocks = new FinalizationRegistry((block: { live: number; address: bigint; length: number }) => {
    if (--block.live === 0) unmapAddress(block.address, block.length);
  });
  return {
    control: (fd, request, value) => check('ioctl', ioctlNumber(fd, request, value)),
    exchange: (fd, request, memory) => check('ioctl', ioctlMemory(fd, request, memory)),
    map(fd, length) {
      const at = mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
      if (koffi.address(at) === mapFailed) throw systemError('mmap', koffi.errno());
      return new Uint8Array(koffi.view(at, length));
    },
    reserve(length) {
      const whole = length + hugePage;
      const at = mmap(null, whole, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
      const start = koffi.address(at);
      if (start === mapFailed) throw systemError('mmap', koffi.errno());
      const address = start + (-start & BigInt(hugePage - 1));
      const parts: ArrayBuffer[] = [];
      for (let from = 0; from < length; from += partStep) {
        parts.push(koffi.view(address + BigInt(from), Math.min(2 * partStep, length - from)));
      }
      const block = { live: parts.length, address: start, length: whole };
      for (const part of parts) blocks.register(part, block);
      return {
        address,
        parts,
        step: partStep,
        // EINVAL of a kernel without huge pages changes nothing.
        preferHugePages: () => void madvise(address, length, MADV_HUGEPAGE),
        discard: () => void check('madvise', madvise(address, length, MADV_DONTNEED)),
      };
    },
    unmap: (memory) => void check('munmap', munmap(memory, memory.length)),
    addressOf: (memory) => koffi.address(memory),
    threadId: () => syscall(SYS_gettid, 0, 0, 0),
    kick: (thread) => void syscall(SYS_tgkill, process.pid, thread, kickSignal),
    armKick() {
      // A handler is needed, because an ignored signal interrupts nothing. abs(3) takes an int,
      // changes nothing, and may run within a signal. No flags: system calls are not restarted.
      const action = new Uint8Array(sigactionSize);
      new DataView(action.buffer).setBigUint64(0, koffi.address(libc.symbol('abs', 'void')), true);
      check('sigaction', sigaction(kickSignal, action, null));
    },
    interruptAfter(ms) {
      // struct sigevent: value, signal, kind, thread. struct itimerspec: period, first time.
      const event = new Uint8Array(64);
      event.set(new Uint8Array(Int32Array.of(kickSignal, SIGEV_THREAD_ID, syscall(SYS_gettid, 0, 0, 0)).buffer), 8);
      const id = new Int32Array(1);
      check('timer_create', createTimer(SYS_timer_create, CLOCK_MONOTONIC, event, id));
      const nanoseconds = (time: number) => BigInt((time % 1000) * 1e6);
      const seconds = BigInt(Math.floor(ms / 1000));
      const times = BigInt64Array.of(0n, nanoseconds(signalPeriodMs), seconds, nanoseconds(ms));
      check('timer_settime', setTimer(SYS_timer_settime, id[0], 0, times, null));
      return () => void syscall(SYS_timer_delete, id[0], 0, 0);
    },
  };
}
