/**
 * The turn of a connection to TLS ([NBD] "TLS support", NBD_OPT_STARTTLS): between the acknowledgement of the option and the
 * first option over TLS. Whatever has come before the acknowledgement left was not sent by a client that keeps to the
 * protocol; it is not looked at, and the connection ends, since somebody may have put it there to be believed later.
 */
import type { Stage, StageHost } from './stage.js';

/** How long a client has for the TLS handshake when the server has begun to shut down, in ms. */
const drainMs = 1000;

export class Securing implements Stage {
  readonly waiting = true;
  readonly #host: StageHost;
  readonly #stop: () => void;
  readonly #begin: (signal: AbortSignal) => void;
  readonly #giveUp = new AbortController();
  /** Of the shutdown. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #begun = false;
  #closed = false;

  /**
   * @param stop Called when everything before it has been sent: what comes from now on is TLS's.
   * @param begin Called once after that, in a later turn.
   */
  constructor(host: StageHost, stop: () => void, begin: (signal: AbortSignal) => void) {
    this.#host = host;
    this.#stop = stop;
    this.#begin = begin;
    this.sent();
  }

  receive(chunk: Uint8Array, at: number): number {
    if (at < chunk.length) this.#host.fail('it sent something between asking for TLS and having it');
    return chunk.length;
  }

  sent(): void {
    if (this.#host.outbox.unsent > 0 || this.#begun) return;
    this.#begun = true;
    this.#stop();
    // What is left of the chunk that asked for it comes first.
    queueMicrotask(() => {
      if (!this.#closed) this.#begin(this.#giveUp.signal);
    });
  }

  drain(): void {
    this.#timer = setTimeout(() => this.#host.fail('the server is being shut down'), drainMs);
  }

  /** It is over, one way or the other. */
  end(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  close(): Promise<void> {
    this.end();
    this.#giveUp.abort(new Error('the connection was closed'));
    return Promise.resolve();
  }
}
