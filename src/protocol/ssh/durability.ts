/**
 * Keeps watch over acknowledged writes that no flush has made durable yet: a server's computer that was restarted may have
 * lost them, and the next flush must say so instead of claiming success.
 */
import { BlockError } from '../../block/errors.js';
import type { RemoteRequest } from './request.js';

export class Durability {
  /** Writes acknowledged so far, and how many of those are known to be durable. */
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /** A flush is about to be sent. Returns the error that it has to fail with instead, if writes were lost before it. */
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

  /** The server's system was started anew. Returns the error of the next flush if writes may have been lost. */
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
