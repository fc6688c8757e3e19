/** Times of the commands whose completions the driver has not consumed yet, by completion queue. */
import type { CommandTimes } from '../command-times.js';
import type { CompletionQueue } from './queues.js';

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
