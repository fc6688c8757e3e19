/**
 * Commands that the driver gives up: Abort (NVM Express 1.4 §5.1), whose number is limited, and
 * Delete I/O Submission Queue (§5.6).
 */
import type { InFlight } from '../in-flight.js';
import { CommandError } from './command.js';
import { abortLimit } from '../../spec/nvme-identify.js';
import type { SubmissionQueue } from './queues.js';
import { Status } from '../../spec/nvme.js';

/** The key of a command among those in flight: its queue and its command identifier. */
export function keyOf(sqid: number, cid: number): number {
  return (sqid << 16) | cid;
}

export class GiveUp {
  readonly #inFlight: InFlight;
  #aborts = 0;

  constructor(inFlight: InFlight) {
    this.#inFlight = inFlight;
  }

  reset(): void {
    this.#aborts = 0;
  }

  /** @throws CommandError if the largest allowed number of Abort commands is in flight */
  checkLimit(): void {
    if (this.#aborts >= abortLimit) throw new CommandError(Status.abortLimitExceeded);
  }

  /**
   * §5.1: gives a command up. Resolves with true if it ended immediately. A command that cannot be
   * given up immediately goes on, and the answer is false.
   */
  async command(sqid: number, cid: number): Promise<boolean> {
    this.checkLimit();
    const target = this.#inFlight.get(keyOf(sqid, cid));
    if (!target) return false;
    this.#aborts++;
    target.abort.abort();
    let ended = false;
    void target.done.then(() => (ended = true));
    // A request that can be given up immediately settles within one iteration of the event loop.
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#aborts--;
    return ended;
  }

  /** §5.6: gives up the commands of a queue and resolves when they have ended. */
  async queue(queue: SubmissionQueue): Promise<void> {
    queue.deleted = true;
    const own = this.#inFlight.giveUp((key) => key >>> 16 === queue.id);
    await Promise.all(own.map(({ done }) => done));
  }
}
