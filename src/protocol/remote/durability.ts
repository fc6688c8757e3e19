/**
 * Detects the loss of acknowledged writes that no flush has made durable yet.
 *
 * If the server's computer restarts between two connections, such writes may be lost. The next
 * flush must then fail instead of claiming success.
 */
import { BlockError } from '../../block/errors.js';
import { Command } from '../nbd/spec.js';
import type { NbdRequest } from '../nbd/initiator/request.js';

export class Durability {
  #state: string | undefined;
  /** The number of acknowledged writes, and the number of them known to be durable. */
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /**
   * @param state STATE of the server (spec.ts, sessionContext); undefined or empty if it does not
   *   report one
   */
  constructor(state: string | undefined) {
    this.#state = state || undefined;
  }

  /**
   * Call before a flush is sent. Returns the error with which the flush must fail instead, if
   * earlier writes were lost.
   */
  flushing(request: NbdRequest): BlockError | undefined {
    const lost = this.#lost;
    if (lost) this.told();
    else request.covers = this.#acknowledged;
    return lost;
  }

  /** The error for the next flush, if writes were lost and no flush has reported it yet. */
  get lost(): BlockError | undefined {
    return this.#lost;
  }

  /**
   * A request was answered with success.
   * @param state STATE of the server, on the connection that brought the answer
   */
  done(request: NbdRequest, state: string | undefined): void {
    if (request.needsFlush) {
      this.#acknowledged++;
      // The answer comes from before a restart that another connection has already noticed.
      if (state && this.#state !== undefined && state !== this.#state) this.#lose();
    } else if (request.type === Command.flush) {
      this.#durable = Math.max(this.#durable, request.covers);
    }
  }

  /**
   * A new connection is established. Returns an error for flushes if writes may have been lost;
   * {@link flushing} returns it too.
   */
  reconnected(state: string | undefined): BlockError | undefined {
    const before = this.#state;
    this.#state = state || undefined;
    if (before === undefined || before === this.#state || this.#durable === this.#acknowledged) return undefined;
    return this.#lose();
  }

  /** A flush has reported the loss. */
  told(): void {
    this.#lost = undefined;
  }

  #lose(): BlockError {
    const count = this.#acknowledged - this.#durable;
    this.#durable = this.#acknowledged;
    this.#lost = new BlockError(
      'io',
      `the server was restarted: ${count} writes that were acknowledged but not flushed may be lost`,
    );
    return this.#lost;
  }
}
