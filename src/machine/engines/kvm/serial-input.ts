/**
 * Bytes for the guest's serial port. They wait here, within a bound, and enter the port as the
 * guest reads them.
 */

/** Most bytes that wait outside the port. Further bytes are dropped, as on any serial line. */
const maxWaiting = 1 << 20;

export class SerialInput {
  readonly #give: (bytes: Uint8Array) => number;
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #taken: (() => void)[] = [];

  /** @param give puts bytes into the port, and returns how many it took */
  constructor(give: (bytes: Uint8Array) => number) {
    this.#give = give;
  }

  /** Sends a copy of `bytes`. Resolves when all bytes sent so far are in the port or dropped. */
  send(bytes: Uint8Array): Promise<void> {
    const taken = bytes.slice(0, Math.max(0, maxWaiting - this.#bytes));
    if (taken.length > 0) this.#waiting.push(taken);
    this.#bytes += taken.length;
    this.feed();
    return this.#bytes === 0 ? Promise.resolve() : new Promise((resolve) => this.#taken.push(resolve));
  }

  /** The port may have room. */
  feed(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0]!;
      const count = this.#give(first);
      this.#bytes -= count;
      if (count < first.length) {
        this.#waiting[0] = first.subarray(count);
        return;
      }
      this.#waiting.shift();
    }
    this.#wake();
  }

  /** The machine has ended: discards the bytes that wait, and resolves all sends. */
  close(): void {
    this.#waiting = [];
    this.#bytes = 0;
    this.#wake();
  }

  #wake(): void {
    for (const taken of this.#taken.splice(0)) taken();
  }
}
