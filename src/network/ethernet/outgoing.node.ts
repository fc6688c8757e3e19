/**
 * Frames or datagrams on their way to the operating system: what is sent in one turn of the event loop leaves by few system
 * calls, and what is made in this memory is not copied on the way.
 */
import type { MessageBatch } from './message-batch.node.js';

/** Bytes that wait for others to be sent with: the other side is to begin with the first while the next are made. */
const maxHeld = 1 << 15;

export interface OutgoingEvents {
  /** Sends `count` messages from `first` on. How many were taken; 0 or less: the first was not. */
  transmit(first: number, count: number): number;
  /** All that waited has been tried, and so many were not taken: as on a wire, they are lost. */
  flushed(lost: number): void;
}

export class Outgoing {
  readonly #batch: MessageBatch;
  readonly #events: OutgoingEvents;
  #count = 0;
  #held = 0;
  #scheduled = false;

  /** The batch stays the caller's. */
  constructor(batch: MessageBatch, events: OutgoingEvents) {
    this.#batch = batch;
    this.#events = events;
  }

  /** Which message of the batch is the next. */
  get next(): number {
    return this.#count;
  }

  /** The memory of the next message. */
  room(): Uint8Array {
    return this.#batch.slot(this.#count);
  }

  /** Adds a message, by copying it if it was not made in {@link room}. */
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
      // The next one may fare better: it can go elsewhere, or be shorter.
      if (taken <= 0) lost++;
      first += Math.max(1, taken);
    }
    this.#events.flushed(lost);
  }
}
