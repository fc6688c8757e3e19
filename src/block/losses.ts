/**
 * Losses of acknowledged writes, and who has been told of them. A device reports a loss to one flush; but each of its users
 * (a connection, a side of a lease, an initiator) may have written what is lost. So a device counts its losses, as Linux
 * does with errseq_t, and each user remembers the count that it has seen.
 *
 * Not here: how a loss is noticed. A flush that fails with kind `io` or `no-space` is one; a device whose server was
 * restarted fails its next flush (the initiators' Durability).
 */
import { BlockError } from './errors.js';

/** What a user is told of a loss that another user's flush met. It is no further loss. */
class LossTold extends BlockError {
  constructor(lost: BlockError) {
    super('io', `writes before this flush may be lost: ${lost.message}`, { cause: lost });
  }
}

/** What a device has lost since it was opened. */
export class Losses {
  #epoch = 0;
  #latest: BlockError | undefined;

  /** Counts the losses. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Notes the outcome of a flush. Failures after which a later flush can still keep its promise are no losses. */
  note(error: BlockError): void {
    if (error === this.#latest || error instanceof LossTold || (error.kind !== 'io' && error.kind !== 'no-space'))
      return;
    this.#epoch++;
    this.#latest = error;
  }

  /** What was lost after `epoch`; undefined if nothing was. */
  since(epoch: number): BlockError | undefined {
    return this.#epoch > epoch ? this.#latest : undefined;
  }
}

/** One user of a device that has others. */
export class LossWatch {
  readonly #losses: Losses;
  #seen: number;

  /** @param seen The epoch up to which this user was told: that of its earlier connection, by default the present one. */
  constructor(losses: Losses, seen = losses.epoch) {
    this.#losses = losses;
    this.#seen = seen;
  }

  get seen(): number {
    return this.#seen;
  }

  /** Runs this user's flush. Rejects if it fails, or if another user's flush met a loss that this user was not told. */
  async flush(run: () => Promise<void>): Promise<void> {
    const before = this.#seen;
    try {
      await run();
    } finally {
      this.#seen = this.#losses.epoch;
    }
    const lost = this.#losses.since(before);
    if (lost) throw new LossTold(lost);
  }
}
