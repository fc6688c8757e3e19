/**
 * Input of the serial port of the v86 engine. Bytes wait here and enter v86's port as the guest
 * reads them.
 *
 * v86 by itself would keep any number of bytes that the guest does not read, including those that
 * the guest sends to itself in loopback mode. Here both are bounded.
 */
import { nextIteration } from '../../../base/event-loop.js';

/** The parts of v86's serial port that are used here. */
export interface V86Uart {
  /** Bytes that the guest has not read yet. */
  input: { readonly length: number; shift(): unknown };
  data_received(byte: number): void;
}

/** Largest number of bytes in v86's port. */
const portBytes = 1024;
/**
 * Largest number of bytes that wait outside the port. Further bytes are dropped, as on any serial
 * line.
 */
const maxWaiting = 1 << 20;
/** Largest number of unread bytes that the guest has sent to itself. */
const maxLoopback = 4096;

export class SerialInput {
  readonly #uart: V86Uart;
  readonly #receive: (byte: number) => void;
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #taken: (() => void)[] = [];
  #feeding = false;

  constructor(uart: V86Uart) {
    this.#uart = uart;
    const receive = uart.data_received.bind(uart);
    this.#receive = receive;
    uart.data_received = (byte) => {
      if (uart.input.length < maxLoopback) receive(byte);
    };
    const { input } = uart;
    const shift = input.shift.bind(input);
    input.shift = () => {
      // This runs within a guest instruction, so feed more bytes afterwards.
      if (this.#bytes > 0 && input.length <= portBytes / 2) this.#feedLater();
      return shift();
    };
  }

  /**
   * Sends a copy of `bytes` to the guest. Resolves when all bytes sent so far are in the port or
   * were dropped.
   */
  send(bytes: Uint8Array): Promise<void> {
    const room = Math.max(0, maxWaiting - this.#bytes);
    if (bytes.length > 0 && room > 0) this.#waiting.push(bytes.slice(0, room));
    this.#bytes += Math.min(bytes.length, room);
    this.#feed();
    if (this.#bytes === 0) return Promise.resolve();
    return new Promise((resolve) => this.#taken.push(resolve));
  }

  /** The machine has ended: discards the bytes that wait, and resolves all sends. */
  close(): void {
    this.#waiting = [];
    this.#bytes = 0;
    this.#wake();
  }

  #feedLater(): void {
    if (this.#feeding) return;
    this.#feeding = true;
    nextIteration(() => {
      this.#feeding = false;
      this.#feed();
    });
  }

  #feed(): void {
    let room = portBytes - this.#uart.input.length;
    while (room > 0 && this.#waiting.length > 0) {
      const first = this.#waiting[0]!;
      const now = first.subarray(0, room);
      for (const byte of now) this.#receive(byte);
      room -= now.length;
      this.#bytes -= now.length;
      if (now.length === first.length) this.#waiting.shift();
      else this.#waiting[0] = first.subarray(now.length);
    }
    if (this.#bytes === 0) this.#wake();
  }

  #wake(): void {
    for (const taken of this.#taken.splice(0)) taken();
  }
}
