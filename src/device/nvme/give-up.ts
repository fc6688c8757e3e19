/** Commands that are given up by command (NVM Express 1.4 §5.1 Abort, §5.6 Delete I/O Submission Queue), within the limit. */
import type { UnderWay } from '../under-way.js';
import { CommandError } from './command.js';
import { abortLimit } from './identify.js';
import type { SubmissionQueue } from './queues.js';
import { Status } from './spec.js';

/** A command's number among those under way: its queue and its identifier in it. */
export function keyOf(sqid: number, cid: number): number {
  return (sqid << 16) | cid;
}

export class GiveUp {
  readonly #underWay: UnderWay;
  #aborts = 0;

  constructor(underWay: UnderWay) {
    this.#underWay = underWay;
  }

  reset(): void {
    this.#aborts = 0;
  }

  /** @throws CommandError where as many Abort commands wait as may */
  checkLimit(): void {
    if (this.#aborts >= abortLimit) throw new CommandError(Status.abortLimitExceeded);
  }

  /** §5.1: whether the command has ended so. What cannot be given up at once goes on, and the answer says so. */
  async command(sqid: number, cid: number): Promise<boolean> {
    this.checkLimit();
    const target = this.#underWay.get(keyOf(sqid, cid));
    if (!target) return false;
    this.#aborts++;
    target.abort.abort();
    let ended = false;
    void target.done.then(() => (ended = true));
    // A request that can be given up at once settles within a turn of the event loop.
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#aborts--;
    return ended;
  }

  /** §5.6: a queue goes when its commands have ended. */
  async queue(queue: SubmissionQueue): Promise<void> {
    queue.deleted = true;
    const own = this.#underWay.giveUp((key) => key >>> 16 === queue.id);
    await Promise.all(own.map(({ done }) => done));
  }
}
