/**
 * Two byte streams that are connected in memory. Bytes written to one arrive at the other, cut into
 * pieces as the test determines.
 */
import type { Buffers } from '../../src/base/buffers.js';
import type { ByteStream, Dialer, StreamEvents } from '../../src/network/stream.js';

/** Chooses how many of the next `length` bytes are delivered at once: 1 to `length`. */
export type Cut = (length: number) => number;

const whole: Cut = (length) => length;

export class MemoryStream implements ByteStream {
  readonly peer = 'memory';
  /** Set by {@link streamPair}. */
  other!: MemoryStream;
  /** While set, nothing is delivered to this side. */
  paused = false;
  /** Chunks that this side has written and that are not delivered yet. */
  readonly #sent: Uint8Array[] = [];
  readonly #cut: Cut;
  #events: StreamEvents | undefined;
  #ending = false;
  #closed = false;
  #scheduled = false;
  #blocked = false;

  constructor(cut: Cut) {
    this.#cut = cut;
  }

  get pending(): number {
    return this.#sent.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  get closed(): boolean {
    return this.#closed;
  }

  attach(events: StreamEvents): void {
    this.#events = events;
    this.other.#schedule();
    if (this.#closed) queueMicrotask(() => events.closed());
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.#closed || this.#ending) return true;
    for (const chunk of chunks) if (chunk.length > 0) this.#sent.push(chunk);
    this.#schedule();
    this.#blocked = this.pending > 1 << 20;
    return !this.#blocked;
  }

  /** Takes a piece of the bytes that the other side has written, as a system call would. */
  receiveInto(into: Buffers, at: number, length: number): number {
    if (this.#closed) return 0;
    const piece = this.other.#take(length);
    into.copyFrom(piece, at);
    return piece.length;
  }

  /** Up to `length` bytes that are not delivered yet: as many as the test determines, or none. */
  #take(length: number): Uint8Array {
    if (this.#closed || this.pending === 0) return new Uint8Array(0);
    const most = Math.min(this.pending, length);
    const count = Math.max(0, Math.min(most, this.#cut(most)));
    const all = Buffer.concat(this.#sent);
    this.#sent.length = 0;
    if (count < all.length) this.#sent.push(all.subarray(count));
    return all.subarray(0, count);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.other.#schedule();
  }

  end(): void {
    this.#ending = true;
    this.#schedule();
  }

  destroy(): void {
    if (this.#closed) return;
    this.#sent.length = 0;
    this.#close();
    this.other.#reset();
  }

  #reset(): void {
    if (this.#closed) return;
    this.#close(new Error('connection reset'));
  }

  #close(error?: Error): void {
    this.#closed = true;
    setImmediate(() => this.#events?.closed(error));
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  /**
   * Delivers all waiting bytes in pieces. Each piece is overwritten afterwards, like a shared
   * receive buffer.
   */
  #deliver(): void {
    const to = this.other;
    while (this.#sent.length > 0) {
      if (to.paused || !to.#events || to.#closed || this.#closed) return;
      const first = this.#sent[0]!;
      const count = Math.max(1, Math.min(first.length, this.#cut(first.length)));
      const piece = new Uint8Array(first.subarray(0, count));
      if (count === first.length) this.#sent.shift();
      else this.#sent[0] = first.subarray(count);
      to.#events.data(piece);
      piece.fill(0xdd);
    }
    if (this.#blocked && !this.#closed) {
      this.#blocked = false;
      this.#events?.drain();
    }
    if (this.#ending && !this.#closed && this.#sent.length === 0) {
      this.#close();
      if (!to.#closed) to.#close();
    }
  }
}

/** Makes two connected streams. `cut` cuts the delivered bytes, in both directions. */
export function streamPair(cut: Cut = whole): [MemoryStream, MemoryStream] {
  const first = new MemoryStream(cut);
  const second = new MemoryStream(cut);
  first.other = second;
  second.other = first;
  return [first, second];
}

/**
 * A dialer that passes the far end of each connection to `accept`, which may throw to refuse it.
 */
export function memoryDialer(accept: (stream: MemoryStream) => void, cut?: Cut): Dialer {
  return {
    address: 'memory',
    async connect() {
      const [near, far] = streamPair(cut);
      accept(far);
      return near;
    },
  };
}
