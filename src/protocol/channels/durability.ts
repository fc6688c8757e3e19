/**
 * Detects the loss of acknowledged writes that no flush has made durable yet.
 *
 * If the server's computer restarts, such writes may be lost. The next flush must then fail instead
 * of claiming success.
 */
import { BlockError } from '../../block/errors.js';
import type { RemoteRequest } from './request.js';

export class Durability {
  /** The number of acknowledged writes, and the number of them known to be durable. */
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /**
   * Call before a flush is sent. Returns the error with which the flush must fail instead, if
   * earlier writes were lost.
   */
  flushing(request: RemoteRequest): BlockError | undefined {
    const lost = this.#lost;
    this.#lost = undefined;
    request.covers = this.#acknowledged;
    return lost;
  }

  /** A request was answered with success. */
  done(request: RemoteRequest): void {
    if (request.changes) this.#acknowledged++;
    else if (request.op === 'flush') this.#durable = Math.max(this.#durable, request.covers);
  }

  /**
   * The server's system has restarted. Returns the error for the next flush if writes may be lost.
   */
  restarted(): BlockError | undefined {
    const count = this.#acknowledged - this.#durable;
    if (count === 0) return undefined;
    this.#durable = this.#acknowledged;
    this.#lost = new BlockError(
      'io',
      `the server was restarted: ${count} writes that were acknowledged but not flushed may be lost`,
    );
    return this.#lost;
  }
}
