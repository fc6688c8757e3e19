/** The memory that the main thread and a virtual processor's thread share, and their messages. */

/** Words of the shared memory, and their values. */
export const VcpuState = {
  /** Number of words. */
  words: 4,
  /** Word: the thread that may proceed. */
  turn: 0,
  main: 0,
  guest: 1,
  /** The virtual processor's thread must end. */
  end: 2,
  /** Word: the result of the last KVM_RUN: 0, or one of the two below. */
  failed: 1,
  interrupted: 1,
  broken: 2,
  /** Word: id of the virtual processor's thread. */
  thread: 2,
  /** Word: number of exits that the thread has answered itself, modulo 2^32. */
  answered: 3,
} as const;

/** Data that a virtual processor's thread is started with. */
export interface VcpuStart {
  /** Descriptors of the virtual processor and of its machine. */
  readonly fd: number;
  readonly vm: number;
  /** Size of the structure that the kernel shares with us, in bytes. */
  readonly runSize: number;
  readonly shared: SharedArrayBuffer;
  /** State of the board (board/shared-state.ts). */
  readonly board: SharedArrayBuffer;
}

/**
 * Messages of a virtual processor's thread: it has started; it has an exit for the main thread;
 * the guest has sent bytes; the serial port has room for more input.
 */
export type VcpuMessage = 'ready' | 'exit' | 'output' | 'room';
