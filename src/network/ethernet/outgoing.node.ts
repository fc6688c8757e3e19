/**
 * Collects frames or datagrams for the operating system. Messages that are sent in one iteration of
 * the event loop leave with few system calls, and a message that is built in this memory is not
 * copied.
 */
import type { MessageBatch } from '../../linux/message-batch.node.js';

/**
 * Bytes that may wait to be sent together, so that the receiver can start on the first messages
 * while the next are built. Chosen, not measured.
 */
const maxHeld = 1 << 15;

export interface OutgoingEvents {
  /**
   * Sends `count` messages, beginning with `first`. Returns the number taken; 0 or less if the
   * first was not taken.
   */
  transmit(first: number, count: number): number;
  /**
   * Called after all waiting messages were tried. `lost` were not taken, and are lost as on a wire.
   */
  flushed(lost: number): void;
}

export class Outgoing {
  readonly #batch: MessageBatch;
  readonly #events: OutgoingEvents;
  #count = 0;
  #held = 0;
  #scheduled = false;

  /** The caller keeps the ownership of `batch`. */
  constructor(batch: MessageBatch, events: OutgoingEvents) {
    this.#batch = batch;
    this.#events = events;
  }

  /** Index of the next message in the batch. */
  get next(): number {
    return this.#count;
  }

  /** Memory of the next message. */
  room(): Uint8Array {
    return this.#batch.slot(this.#count);
  }

  /** Adds a message. Copies it unless it was built in {@link room}. */
  add(bytes: Uint8Array): void {
    const slot = this.room();
    if (bytes.buffer !== slot.buffer || bytes.byteOffset !== slot.byteOffset) slot.set(bytes);
    this.#batch.setLength(this.#count, bytes.length);
    this.#count++;
    this.#held += bytes.length;
    if (this.#count === this.#batch.count || this.#held >= maxHeld) {
      this.flush();
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(() => {
        this.#scheduled = false;
        this.flush();
      });
    }
  }

  flush(): void {
    const count = this.#count;
    this.#count = 0;
    this.#held = 0;
    if (count === 0) return;
    let lost = 0;
    for (let first = 0; first < count;) {
      const taken = this.#events.transmit(first, count - first);
      // Skip the refused message: the next one may succeed, with another destination or a smaller
      // size.
      if (taken <= 0) lost++;
      first += Math.max(1, taken);
    }
    this.#events.flushed(lost);
  }
}
