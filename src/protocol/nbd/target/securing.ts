/**
 * The switch of a connection to TLS ([NBD] "TLS support", NBD_OPT_STARTTLS): from the
 * acknowledgement of the option to the first option over TLS.
 *
 * A correct client sends nothing between its request for TLS and the acknowledgement. If bytes
 * arrive in that time, they are not read and the connection ends: an attacker could have injected
 * them in plain text to be processed later as if they were encrypted.
 */
import type { Stage, StageHost } from './stage.js';

/**
 * After the server has begun to shut down, the client has this long for the TLS handshake, in ms.
 */
const drainMs = 1000;

export class Securing implements Stage {
  readonly waiting = true;
  readonly #host: StageHost;
  readonly #stop: () => void;
  readonly #begin: (signal: AbortSignal) => void;
  readonly #giveUp = new AbortController();
  /** Timer of the shutdown. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #begun = false;
  #closed = false;

  /**
   * @param stop called when the acknowledgement has been sent: later bytes belong to TLS
   * @param begin called once after that, asynchronously
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
    // Wait until the rest of the chunk that asked for TLS has been examined.
    queueMicrotask(() => {
      if (!this.#closed) this.#begin(this.#giveUp.signal);
    });
  }

  drain(): void {
    this.#timer = setTimeout(() => this.#host.fail('the server is being shut down'), drainMs);
  }

  /** The phase is over: TLS is established or has failed. */
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
