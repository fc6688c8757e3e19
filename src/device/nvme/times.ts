/** When commands pass their stations: kept from the doorbell until the driver has consumed the completion. */
import type { CompletionQueue } from './queues.js';

/** When a command of an I/O queue passed each station, in ms of `performance.now()`. */
export interface CommandTimes {
  readonly tag: number;
  readonly opcode: number;
  /** The driver's doorbell write trapped. */
  readonly trapped: number;
  /** It was handed to the virtual I/O client. */
  readonly issued: number;
  /** The virtual I/O client had carried it out. */
  readonly answered: number;
  /** The driver had consumed its completion. */
  readonly consumed: number;
}

/**
 * Completions that were posted and not yet consumed, oldest first. They are kept by the completion queue itself, not by
 * its number: a queue that the driver deletes takes what is kept of it along.
 */
export class PostedTimes {
  readonly #posted = new WeakMap<CompletionQueue, (CommandTimes | undefined)[]>();

  /** A completion was posted; `times` for a command of an I/O queue. */
  posted(queue: CompletionQueue, times: CommandTimes | undefined): void {
    const list = this.#posted.get(queue);
    if (list) list.push(times);
    else this.#posted.set(queue, [times]);
  }

  /** The driver has consumed the oldest `count` of a queue. */
  consumed(queue: CompletionQueue, count: number, report: (times: CommandTimes) => void): void {
    const consumed = performance.now();
    for (const times of this.#posted.get(queue)?.splice(0, count) ?? []) if (times) report({ ...times, consumed });
  }
}
