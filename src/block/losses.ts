/**
 * Reports the loss of acknowledged writes to every user of a device, once to each.
 *
 * A device reports a loss by failing one flush. But each of its users (a connection, a side of a
 * lease, an initiator) may have written the lost data. So the device counts its losses (the epoch),
 * as Linux does with errseq_t, and each user remembers the epoch that it has seen. A user's flush
 * fails if the epoch has advanced since.
 *
 * Not here: how a loss is detected. A flush that fails with kind `io` or `no-space` is a loss. An
 * initiator whose server has restarted fails its next flush (class Durability).
 */
import { BlockError } from './errors.js';

/** Tells a user about a loss that another user's flush has met. It does not count as a new loss. */
class LossTold extends BlockError {
  constructor(lost: BlockError) {
    super('io', `writes before this flush may be lost: ${lost.message}`, { cause: lost });
  }
}

/** The losses of one device since it was opened. */
export class Losses {
  #epoch = 0;
  #latest: BlockError | undefined;

  /** The number of losses so far. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Notes a failed flush. Errors after which a later flush can still make the data durable are no
   * losses.
   */
  note(error: BlockError): void {
    if (error === this.#latest || error instanceof LossTold || (error.kind !== 'io' && error.kind !== 'no-space'))
      return;
    this.#epoch++;
    this.#latest = error;
  }

  /** The latest loss after `epoch`; undefined if there was none. */
  since(epoch: number): BlockError | undefined {
    return this.#epoch > epoch ? this.#latest : undefined;
  }
}

/** One of several users of a device. */
export class LossWatch {
  readonly #losses: Losses;
  #seen: number;

  /**
   * @param seen the epoch that this user has seen: that of its earlier connection; default: the
   * present one
   */
  constructor(losses: Losses, seen = losses.epoch) {
    this.#losses = losses;
    this.#seen = seen;
  }

  /** The count of losses that this user knows of. */
  get seen(): number {
    return this.#seen;
  }

  /**
   * Runs this user's flush. Rejects if it fails, or if another user's flush has met a loss since
   * the last call.
   */
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
