/**
 * A request that has not ended, from its caller to its answer, across as many connections as that
 * takes. Protocols extend it by what they send.
 */
import { onAbort } from '../../base/abort.js';
import type { BlockError } from '../../block/errors.js';

export abstract class PendingRequest {
  /** Settles with the request. Rejects with a BlockError. */
  readonly done: Promise<void>;
  /** Time at which it first lost its connection, in ms of `Reconnection.now()`. */
  lostAt: number | undefined;
  /** For a flush: the number of acknowledged writes that it covers. */
  covers = 0;

  readonly #signal: AbortSignal | undefined;
  readonly #unwatch: () => void;
  #resolve!: () => void;
  #reject!: (error: BlockError) => void;

  /** @param aborted called if the caller aborts the request before it is settled */
  constructor(signal: AbortSignal | undefined, aborted: () => void) {
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = signal;
    this.#unwatch = onAbort(signal, aborted);
  }

  /** True if the caller has aborted the request. */
  get aborted(): boolean {
    return this.#signal?.aborted ?? false;
  }

  succeed(): void {
    this.#unwatch();
    this.#resolve();
  }

  fail(error: BlockError): void {
    this.#unwatch();
    this.#reject(error);
  }
}
