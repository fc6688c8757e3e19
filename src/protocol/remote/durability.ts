/**
 * Detects the loss of acknowledged writes that no flush has made durable yet.
 *
 * If the server loses its memory between two connections (it is restarted, or its computer is),
 * such writes may be lost. The next flush must then fail instead of claiming success.
 *
 * Not here: how a protocol learns of a restart (NBD: the session's state; ssh: the boot id; AoE:
 * the memory that a session's grant names).
 */
import { BlockError } from '../../block/errors.js';

/** A flush, with the number of acknowledged writes that it covers. */
export interface CountedFlush {
  covers: number;
}

export class Durability {
  readonly #server: string;
  /** Name of the server's memory, which holds unflushed writes. Another name: they were lost. */
  #memory: string | undefined;
  /** The number of acknowledged writes, and the number of them known to be durable. */
  #acknowledged = 0;
  #durable = 0;
  #lost: BlockError | undefined;

  /** @param server the protocol's word for the server, for messages */
  constructor(server = 'server') {
    this.#server = server;
  }

  /**
   * Call before a flush is sent for the first time. Returns the error with which the flush must
   * fail instead, if earlier writes were lost.
   */
  flushing(flush: CountedFlush): BlockError | undefined {
    const lost = this.#lost;
    this.#lost = undefined;
    flush.covers = this.#acknowledged;
    return lost;
  }

  /** The error for the next flush, if writes were lost and no flush has reported it yet. */
  get lost(): BlockError | undefined {
    return this.#lost;
  }

  /**
   * A write was answered with success that only a later flush makes durable.
   * @param memory name of the server's memory, on the connection that brought the answer; undefined
   *   if unknown
   */
  wrote(memory?: string): void {
    this.#acknowledged++;
    // The answer comes from before a restart that another connection has already noticed.
    if (memory !== undefined && this.#memory !== undefined && memory !== this.#memory) this.restarted();
  }

  flushed({ covers }: CountedFlush): void {
    this.#durable = Math.max(this.#durable, covers);
  }

  /**
   * A connection is established. Returns an error for flushes if writes may have been lost;
   * {@link flushing} returns it too.
   * @param memory name of the server's memory; undefined if it reports none
   */
  connected(memory: string | undefined): BlockError | undefined {
    const before = this.#memory;
    this.#memory = memory;
    return before === undefined || before === memory ? undefined : this.restarted();
  }

  /** The server has lost its memory. Returns the error for the next flush if writes may be lost. */
  restarted(): BlockError | undefined {
    const count = this.#acknowledged - this.#durable;
    if (count === 0) return undefined;
    this.#durable = this.#acknowledged;
    this.#lost = new BlockError(
      'io',
      `the ${this.#server} was restarted: ${count} writes that were acknowledged but not flushed may be lost`,
    );
    return this.#lost;
  }

  /** A flush has reported the loss. */
  told(): void {
    this.#lost = undefined;
  }
}
