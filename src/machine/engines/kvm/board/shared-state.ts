/**
 * The state of the board's quick parts, in memory that all threads of the computer share: the
 * threads of the processors answer most I/O ports themselves, because a change of threads costs
 * more than the port.
 *
 * A lock makes each access to a port whole. It is held for some microseconds only.
 */

/** Bytes of output that wait for the main thread. */
export const outputBytes = 1 << 16;
/** Bytes of input that the serial port holds. */
export const inputBytes = 1024;
/** 32 slots with one function, and another function in slot 1. */
const slots = 33;
const configBytes = 256;

/** Words of the state: numbers of 32 bits. */
export const Word = {
  lock: 0,
  /** The PCI address register. */
  pciAddress: 1,
  /** A bit for each PCI slot that has a function. */
  pciPresent: 2,
  cmosIndex: 3,
  portB: 4,
  uartEnable: 5,
  uartLineControl: 6,
  uartModemControl: 7,
  uartScratch: 8,
  uartDivisor: 9,
  uartFifo: 10,
  /** 1 while the interrupt "transmitter empty" is not acknowledged. */
  uartEmpty: 11,
  /** 1 while the port's interrupt is asserted. */
  uartLine: 12,
  /** Numbers of bytes written and read since the start, modulo 2^32. */
  inputWritten: 13,
  inputRead: 14,
  outputWritten: 15,
  outputRead: 16,
  /** 1 if the main thread was told of output, and has not looked yet. */
  outputTold: 17,
  /** 1 if the main thread has more input than the port takes. */
  inputWaits: 18,
  powerEnable: 19,
  /** Memory above 16 MiB and below 4 GiB, and above 4 GiB, in units of 64 KiB. */
  lowMemory: 20,
  highMemory: 21,
  /** 1 if the board has the function for power management in slot 1. */
  powerFunction: 22,
  count: 23,
} as const;

export class SharedState {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly input: Uint8Array;
  readonly output: Uint8Array;
  readonly #config: Uint8Array;

  /** @param buffer state of the same computer in another thread; default: a new one */
  constructor(buffer?: SharedArrayBuffer) {
    const wordBytes = 4 * Word.count;
    const size = wordBytes + inputBytes + outputBytes + slots * configBytes;
    this.buffer = buffer ?? new SharedArrayBuffer(size);
    this.words = new Int32Array(this.buffer, 0, Word.count);
    this.input = new Uint8Array(this.buffer, wordBytes, inputBytes);
    this.output = new Uint8Array(this.buffer, wordBytes + inputBytes, outputBytes);
    this.#config = new Uint8Array(this.buffer, wordBytes + inputBytes + outputBytes, slots * configBytes);
  }

  /** The configuration space of the function in a PCI slot: 256 bytes. */
  config(slot: number): Uint8Array {
    return this.#config.subarray(slot * configBytes, (slot + 1) * configBytes);
  }

  /** Runs `work` while no other thread runs any under this lock. */
  locked<T>(work: () => T): T {
    const { words } = this;
    for (let tries = 0; Atomics.compareExchange(words, Word.lock, 0, 1) !== 0; tries++) {
      if (tries > spins) Atomics.wait(words, Word.lock, 1, 1);
    }
    try {
      return work();
    } finally {
      Atomics.store(words, Word.lock, 0);
      Atomics.notify(words, Word.lock, 1);
    }
  }
}

/** Tries before a thread sleeps for the lock. Chosen, not measured. */
const spins = 100;
