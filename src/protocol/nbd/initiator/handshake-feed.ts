/**
 * Connects a handshake, which asks for exact numbers of bytes, to a stream that delivers chunks of
 * any size.
 */
import { PeerError } from './errors.js';
import type { Handshake } from './negotiation.js';

export class HandshakeFeed<T> {
  readonly #handshake: Handshake<T>;
  readonly #agreed: (result: T) => void;
  readonly #failed: (error: Error) => void;
  #wanted = new Uint8Array(0);
  #have = 0;
  #over = false;

  /** Exactly one of the callbacks is called, once. */
  constructor(handshake: Handshake<T>, agreed: (result: T) => void, failed: (error: Error) => void) {
    this.#handshake = handshake;
    this.#agreed = agreed;
    this.#failed = failed;
    this.#step(() => handshake.next());
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#over) return;
      const count = Math.min(this.#wanted.length - this.#have, chunk.length - at);
      this.#wanted.set(chunk.subarray(at, at + count), this.#have);
      this.#have += count;
      at += count;
      if (this.#have === this.#wanted.length) this.#step(() => this.#handshake.next(this.#wanted), at < chunk.length);
    }
  }

  /** Ends the handshake with an error, unless it is over. */
  fail(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#failed(error);
  }

  /** @param more true if further bytes have already arrived after those of this step */
  #step(next: () => IteratorResult<number, T>, more = false): void {
    let result: IteratorResult<number, T>;
    try {
      result = next();
    } catch (error) {
      return this.fail(error as Error);
    }
    if (!result.done) {
      this.#wanted = new Uint8Array(result.value);
      this.#have = 0;
      return;
    }
    if (more) return this.fail(new PeerError('the server sent something before it was asked'));
    this.#over = true;
    this.#agreed(result.value);
  }
}
