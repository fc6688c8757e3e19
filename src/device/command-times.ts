/**
 * Times of a command, from the doorbell write to the moment the driver consumes the completion.
 * Used for `--trace` and latency figures; AHCI uses {@link CommandTimes} as well.
 */
import type { CompletionQueue } from './nvme/queues.js';

/** Times of one command of an I/O queue, in ms of `performance.now()`. */
export interface CommandTimes {
  readonly tag: number;
  readonly opcode: number;
  /** The driver's doorbell write left the guest (trap). */
  readonly trapped: number;
  /** The controller passed the command to the virtual I/O client. */
  readonly issued: number;
  /** The virtual I/O client had carried the command out. */
  readonly answered: number;
  /** The driver consumed the completion. */
  readonly consumed: number;
}

/**
 * The times of completions that were posted and not yet consumed, oldest first.
 *
 * The key is the completion queue object, not its number: when the driver deletes a queue and
 * creates another with the same number, the new one must not inherit the old one's times.
 */
export class PostedTimes {
  readonly #posted = new WeakMap<CompletionQueue, (CommandTimes | undefined)[]>();

  /** Records that a completion was posted. `times` is undefined for commands of the admin queue. */
  posted(queue: CompletionQueue, times: CommandTimes | undefined): void {
    const list = this.#posted.get(queue);
    if (list) list.push(times);
    else this.#posted.set(queue, [times]);
  }

  /**
   * Records that the driver consumed the oldest `count` completions of `queue`, and reports their
   * times.
   */
  consumed(queue: CompletionQueue, count: number, report: (times: CommandTimes) => void): void {
    const consumed = performance.now();
    for (const times of this.#posted.get(queue)?.splice(0, count) ?? []) if (times) report({ ...times, consumed });
  }
}
