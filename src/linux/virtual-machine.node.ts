/**
 * System calls for running virtual machines: ioctl(2), mmap(2), and a signal that makes another
 * thread leave a system call: sigaction(2), tgkill(2). They run on the caller's thread.
 *
 * Not here: the requests of KVM (machine/engines/kvm/abi.ts).
 */
import { requireKoffi, type Call } from './koffi.node.js';
import { systemError } from './system-error.node.js';

/** mmap(2). */
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const mapFailed = 0xffff_ffff_ffff_ffffn;
/** Numbers of system calls on x86-64. */
const SYS_gettid = 186;
const SYS_tgkill = 234;
/** A real-time signal that neither Node nor the C library uses. */
const kickSignal = 40;
/** struct sigaction of glibc on x86-64: handler, mask of 128 bytes, flags, restorer. */
const sigactionSize = 152;

/** All calls throw an error with an errno `code`. */
export interface MachineCalls {
  /** ioctl(2) with a number as its argument. */
  control(fd: number, request: number, value: number): number;
  /** ioctl(2) with memory as its argument, which is read and written in place. */
  exchange(fd: number, request: number, memory: Uint8Array): number;
  /** Maps `length` bytes of a file, shared. They stay mapped until the process ends. */
  map(fd: number, length: number): Uint8Array;
  /** Address of the first byte in this process. */
  addressOf(memory: Uint8Array): bigint;
  /** Thread id of the caller. */
  threadId(): number;
  /** Makes another thread of this process leave its system call with EINTR. */
  kick(thread: number): void;
  /** Prepares this process for {@link kick}. */
  armKick(): void;
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
  const syscall = libc.func('long syscall(long, long, long, long)') as Call;
  const sigaction = libc.func('int sigaction(int, void *, void *)') as Call;
  const check = (call: string, result: number): number => {
    if (result < 0) throw systemError(call, koffi.errno());
    return result;
  };
  return {
    control: (fd, request, value) => check('ioctl', ioctlNumber(fd, request, value)),
    exchange: (fd, request, memory) => check('ioctl', ioctlMemory(fd, request, memory)),
    map(fd, length) {
      const at = mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
      if (koffi.address(at) === mapFailed) throw systemError('mmap', koffi.errno());
      return new Uint8Array(koffi.view(at, length));
    },
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
  };
}
