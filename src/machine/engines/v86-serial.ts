/**
 * What comes into the serial port of the v86 engine: bytes wait here and go into v86's port as the guest takes them out.
 * v86 itself keeps any number of bytes that the guest does not read, also those that the guest sends to itself in the
 * port's loopback mode.
 */
import { nextTurn } from '../../base/turn.js';

/** What is used of v86's serial port. */
export interface V86Uart {
  /** Bytes that the guest has not read. */
  input: { readonly length: number; shift(): unknown };
  data_received(byte: number): void;
}

/** Bytes that are in v86's port at a time. */
const portBytes = 1024;
/** Bytes that may wait for the guest besides; more are dropped, as on any serial line. */
const maxWaiting = 1 << 20;
/** Bytes that the guest can send to itself. */
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
      // The guest is within its instruction: more comes afterwards.
      if (this.#bytes > 0 && input.length <= portBytes / 2) this.#feedLater();
      return shift();
    };
  }

  /** Sends a copy of bytes to the guest. Resolves when all that was sent so far is in the port, or lost. */
  send(bytes: Uint8Array): Promise<void> {
    const room = Math.max(0, maxWaiting - this.#bytes);
    if (bytes.length > 0 && room > 0) this.#waiting.push(bytes.slice(0, room));
    this.#bytes += Math.min(bytes.length, room);
    this.#feed();
    if (this.#bytes === 0) return Promise.resolve();
    return new Promise((resolve) => this.#taken.push(resolve));
  }

  /** The machine has ended: nothing takes what waits. */
  close(): void {
    this.#waiting = [];
    this.#bytes = 0;
    this.#wake();
  }

  #feedLater(): void {
    if (this.#feeding) return;
    this.#feeding = true;
    nextTurn(() => {
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
