/**
 * Keeps watch over acknowledged writes that no flush has made durable yet: a target that lost its memory in the
 * meantime may have lost them, and the next flush must say so instead of claiming success.
 */
import { BlockError } from '../../../block/errors.js';
import type { Command } from './command.js';

export class Durability {
  #life: string | undefined;
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /** A flush is about to be sent for the first time. The error that it has to fail with instead, if writes were lost. */
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

  /** The target's present life. An error, which the next flush gives too, if it is another than before and writes may be lost. */
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

  /** Somebody has been told of the loss. */
  told(): void {
    this.#lost = undefined;
  }
}
