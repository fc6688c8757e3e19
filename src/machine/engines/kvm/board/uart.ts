/**
 * The first serial port: a 16550A (National Semiconductor PC16550D, 1995) at I/O ports 0x3f8 to
 * 0x3ff, interrupt 4. Its state is shared by all threads; callers hold the lock.
 *
 * A byte that the guest sends waits until the main thread takes it. A byte for the guest waits in
 * the port.
 *
 * Left out: speeds, errors of the line, break, and the modem's lines but in loopback.
 */
import { Word, inputBytes, outputBytes, type SharedState } from './shared-state.js';

export const uartBase = 0x3f8;
export const uartPorts = 8;
export const uartInterrupt = 4;

/** Register offsets with DLAB = 0. */
const Register = {
  data: 0,
  enable: 1,
  identify: 2,
  line: 3,
  modem: 4,
  lineStatus: 5,
  modemStatus: 6,
  scratch: 7,
} as const;
/** Line status: data ready; transmitter and its holding register empty. */
const dataReady = 0x01;
const transmitterEmpty = 0x60;
const loopback = 0x10;

export class Uart {
  readonly #words: Int32Array;
  readonly #state: SharedState;
  readonly #interrupt: (asserted: boolean) => void;

  constructor(state: SharedState, interrupt: (asserted: boolean) => void) {
    this.#state = state;
    this.#words = state.words;
    this.#interrupt = interrupt;
  }

  /** Number of bytes that the port takes now. */
  get room(): number {
    return inputBytes - this.#waiting;
  }

  /** True if there is no room for output: the main thread must take some first. */
  get full(): boolean {
    return ((this.#words[Word.outputWritten]! - this.#words[Word.outputRead]!) | 0) === outputBytes;
  }

  /** A byte arrives. It is lost if there is no room. */
  receive(byte: number): void {
    this.#put(byte);
    this.#update();
  }

  /** The bytes that the guest has not read yet. */
  get input(): Uint8Array {
    const from = this.#words[Word.inputRead]! >>> 0;
    return Uint8Array.from({ length: this.#waiting }, (_, i) => this.#state.input[(from + i) % inputBytes]!);
  }

  /** Takes the bytes that the guest has sent. */
  takeOutput(): Uint8Array {
    const words = this.#words;
    const { output } = this.#state;
    const count = (words[Word.outputWritten]! - words[Word.outputRead]!) | 0;
    const from = words[Word.outputRead]! >>> 0;
    words[Word.outputRead] = words[Word.outputWritten]!;
    return Uint8Array.from({ length: count }, (_, i) => output[(from + i) % outputBytes]!);
  }

  read(port: number): number {
    const words = this.#words;
    switch (port - uartBase) {
      case Register.data: {
        if (this.#latch) return words[Word.uartDivisor]! & 0xff;
        const byte = this.#take();
        this.#update();
        return byte;
      }
      case Register.enable:
        return this.#latch ? words[Word.uartDivisor]! >> 8 : words[Word.uartEnable]!;
      case Register.identify:
        return this.#identify();
      case Register.line:
        return words[Word.uartLineControl]!;
      case Register.modem:
        return words[Word.uartModemControl]!;
      case Register.lineStatus:
        return transmitterEmpty | (this.#waiting > 0 ? dataReady : 0);
      case Register.modemStatus:
        return this.#modemStatus();
      default:
        return words[Word.uartScratch]!;
    }
  }

  write(port: number, value: number): void {
    const words = this.#words;
    switch (port - uartBase) {
      case Register.data:
        if (this.#latch) words[Word.uartDivisor] = (words[Word.uartDivisor]! & 0xff00) | value;
        else this.#transmit(value);
        break;
      case Register.enable:
        if (this.#latch) {
          words[Word.uartDivisor] = (words[Word.uartDivisor]! & 0xff) | (value << 8);
          break;
        }
        // Enabling the interrupt of an empty transmitter raises it.
        if (value & ~words[Word.uartEnable]! & 2) words[Word.uartEmpty] = 1;
        words[Word.uartEnable] = value & 0x0f;
        break;
      case Register.identify: // FIFO control
        words[Word.uartFifo] = value & 1;
        if (value & 2) words[Word.inputRead] = words[Word.inputWritten]!;
        break;
      case Register.line:
        words[Word.uartLineControl] = value;
        break;
      case Register.modem:
        words[Word.uartModemControl] = value & 0x1f;
        break;
      case Register.scratch:
        words[Word.uartScratch] = value;
        break;
    }
    this.#update();
  }

  get #latch(): boolean {
    return (this.#words[Word.uartLineControl]! & 0x80) !== 0;
  }

  get #waiting(): number {
    return (this.#words[Word.inputWritten]! - this.#words[Word.inputRead]!) | 0;
  }

  #put(byte: number): void {
    if (this.room === 0) return;
    const at = this.#words[Word.inputWritten]! >>> 0;
    this.#state.input[at % inputBytes] = byte;
    this.#words[Word.inputWritten] = (at + 1) | 0;
  }

  #take(): number {
    if (this.#waiting === 0) return 0;
    const at = this.#words[Word.inputRead]! >>> 0;
    this.#words[Word.inputRead] = (at + 1) | 0;
    return this.#state.input[at % inputBytes]!;
  }

  #transmit(byte: number): void {
    // A full register is not empty: the interrupt falls and rises again, which is a new edge.
    if (this.#words[Word.uartEmpty] === 1) {
      this.#words[Word.uartEmpty] = 0;
      this.#update();
    }
    if (this.#words[Word.uartModemControl]! & loopback) this.#put(byte);
    else if (!this.full) {
      const at = this.#words[Word.outputWritten]! >>> 0;
      this.#state.output[at % outputBytes] = byte;
      this.#words[Word.outputWritten] = (at + 1) | 0;
    }
    this.#words[Word.uartEmpty] = 1;
  }

  #identify(): number {
    const words = this.#words;
    const fifo = words[Word.uartFifo] ? 0xc0 : 0;
    if ((words[Word.uartEnable]! & 1) !== 0 && this.#waiting > 0) return fifo | 0x04;
    if ((words[Word.uartEnable]! & 2) === 0 || !words[Word.uartEmpty]) return fifo | 0x01;
    // Reading this cause acknowledges it.
    words[Word.uartEmpty] = 0;
    this.#update();
    return fifo | 0x02;
  }

  #modemStatus(): number {
    const out = this.#words[Word.uartModemControl]!;
    if ((out & loopback) === 0) return 0xb0; // carrier, ready, clear to send
    return ((out & 2) << 3) | ((out & 1) << 5) | ((out & 4) << 4) | ((out & 8) << 4);
  }

  #update(): void {
    const words = this.#words;
    const input = (words[Word.uartEnable]! & 1) !== 0 && this.#waiting > 0;
    const empty = (words[Word.uartEnable]! & 2) !== 0 && words[Word.uartEmpty] === 1;
    const asserted = input || empty ? 1 : 0;
    if (words[Word.uartLine] === asserted) return;
    words[Word.uartLine] = asserted;
    this.#interrupt(asserted === 1);
  }
}
