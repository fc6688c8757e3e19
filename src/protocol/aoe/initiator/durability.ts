/**
 * Tracks acknowledged writes that no flush has made durable yet. If the target lost its memory,
 * those writes may be lost, and the next flush must report that instead of success.
 */
import { BlockError } from '../../../block/errors.js';
import type { Command } from './command.js';

export class Durability {
  #life: string | undefined;
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /**
   * Called before a flush is sent for the first time. Returns the error that the flush must fail
   * with if writes were lost.
   */
  flushing(flush: Command): BlockError | undefined {
    const lost = this.#lost;
    this.#lost = undefined;
    flush.covers = this.#acknowledged;
    return lost;
  }

  done(command: Command): void {
    if (command.kind === 'write' && !command.fua) this.#acknowledged++;
    else if (command.kind === 'flush') this.#durable = Math.max(this.#durable, command.covers);
  }

  /**
   * Records the target's `life` (session.ts). If it differs from the one before and writes may be
   * lost, returns an error, which the next flush reports too.
   */
  opened(life: Uint8Array): BlockError | undefined {
    const before = this.#life;
    this.#life = life.join();
    if (before === undefined || before === this.#life || this.#durable === this.#acknowledged) return undefined;
    const count = this.#acknowledged - this.#durable;
    this.#durable = this.#acknowledged;
    this.#lost = new BlockError(
      'io',
      `the target was restarted: ${count} writes that were acknowledged but not flushed may be lost`,
    );
    return this.#lost;
  }

  /** The loss has been reported to a caller; the next flush need not report it. */
  told(): void {
    this.#lost = undefined;
  }
}
