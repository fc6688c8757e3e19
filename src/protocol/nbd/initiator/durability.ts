/**
 * Keeps watch over acknowledged writes that no flush has made durable yet: a server's computer that went down between
 * two connections may have lost them, and the next flush must say so instead of claiming success.
 */
import { BlockError } from '../../../block/errors.js';
import { Command } from '../spec.js';
import type { NbdRequest } from './request.js';

export class Durability {
  #state: string | undefined;
  /** Writes acknowledged so far, and how many of those are known to be durable. */
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /** @param state The server's, of sessionContext in spec.ts. Undefined or empty: it does not say. */
  constructor(state: string | undefined) {
    this.#state = state || undefined;
  }

  /** A flush is about to be sent. Returns the error that it has to fail with instead, if writes were lost before it. */
  flushing(request: NbdRequest): BlockError | undefined {
    const lost = this.#lost;
    if (lost) this.told();
    else request.covers = this.#acknowledged;
    return lost;
  }

  /** What flushes have to fail with, if writes were lost and nobody has been told yet. */
  get lost(): BlockError | undefined {
    return this.#lost;
  }

  /**
   * A request was answered with success.
   * @param state The server's, on the connection that brought the answer.
   */
  done(request: NbdRequest, state: string | undefined): void {
    if (request.needsFlush) {
      this.#acknowledged++;
      // The answer of an earlier life, which came when another connection knew of the next one already.
      if (state && this.#state !== undefined && state !== this.#state) this.#lose();
    } else if (request.type === Command.flush) {
      this.#durable = Math.max(this.#durable, request.covers);
    }
  }

  /** There is a new connection. Returns an error for flushes if writes may have been lost; {@link flushing} gives it too. */
  reconnected(state: string | undefined): BlockError | undefined {
    const before = this.#state;
    this.#state = state || undefined;
    if (before === undefined || before === this.#state || this.#durable === this.#acknowledged) return undefined;
    return this.#lose();
  }

  /** The loss has been reported to a flush. */
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
