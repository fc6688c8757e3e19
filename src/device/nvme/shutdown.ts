/** The shutdown that the driver asks for in CC.SHN (NVMe 1.4 §7.6.2), reported in CSTS.SHST. */
import { Csts } from '../../spec/nvme.js';
import { InFlight } from '../in-flight.js';
import type { RegisterFile } from './registers.js';

const status = 3 << 2; // CSTS.SHST

export class Shutdown {
  readonly #registers: RegisterFile;
  readonly #flush: (signal: AbortSignal) => Promise<void>;
  readonly #running = new InFlight();

  /** @param flush Makes the medium durable; it must not reject. */
  constructor(registers: RegisterFile, flush: (signal: AbortSignal) => Promise<void>) {
    this.#registers = registers;
    this.#flush = flush;
  }

  /** Flushes the medium, then reports that the shutdown is complete. */
  begin(): void {
    this.#report(Csts.shutdownOccurring);
    // One flush at a time: further shutdown requests share the flush that is in flight.
    if (this.#running.size > 0) return;
    const abort = new AbortController();
    const done = this.#run(abort.signal).finally(() => this.#running.ended(0));
    this.#running.add(0, { abort, done });
  }

  /** A reset: the shutdown is not reported any more. */
  giveUp(): void {
    this.#running.giveUp();
  }

  /** Resolves when no flush is in flight. */
  drained(): Promise<void> {
    return this.#running.drained();
  }

  async #run(signal: AbortSignal): Promise<void> {
    await this.#flush(signal);
    if (!signal.aborted) this.#report(Csts.shutdownComplete);
  }

  #report(state: number): void {
    this.#registers.csts = (this.#registers.csts & ~status) | state;
  }
}
