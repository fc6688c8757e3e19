/**
 * The controller's pin-based interrupt (NVMe 1.4 §7.5.1.1).
 *
 * The line is asserted while a queue with interrupts enabled has entries that the driver has not
 * consumed, unless the interrupt is masked. While more commands are in flight, the interrupt of an
 * I/O queue is delayed for a moment (interrupt coalescing, §7.5), so that completions that come
 * together cost the guest one interrupt.
 */
import { nextIteration } from '../../base/event-loop.js';
import type { InterruptLine } from '../../machine/engine.js';
import type { CompletionQueue } from './queues.js';

/** The state that decides the level of the line. It is read again after each change. */
export interface InterruptSources {
  /** INTMS: bit 0 masks the interrupt pin. */
  readonly masked: boolean;
  readonly queues: Iterable<CompletionQueue>;
  /** Commands of I/O queues that are in flight. */
  readonly inFlight: number;
  readonly coalescing: { readonly ms: number; readonly entries: number };
}

export class Interrupt {
  /** Number of times the line went from low to high. */
  raised = 0;
  #line: InterruptLine = { set: () => undefined };
  #asserted = false;
  /**
   * End of the delay of an interrupt, in ms of `performance.now()`; undefined if none is delayed.
   */
  #heldUntil: number | undefined;
  /**
   * A check in the next iteration of the event loop is scheduled. One is enough, even if the guest
   * changes the mask often.
   */
  #looking = false;
  readonly #sources: () => InterruptSources;

  constructor(sources: () => InterruptSources) {
    this.#sources = sources;
  }

  /** Connects the interrupt line that the board assigned. */
  connect(line: InterruptLine): void {
    this.#line = line;
  }

  /** Sets the line to the level that the current state requires. */
  update(): void {
    const sources = this.#sources();
    const { wanted, urgent } = pending(sources);
    if (!wanted || this.#asserted || urgent || sources.inFlight === 0 || sources.coalescing.ms === 0) {
      this.#heldUntil = undefined;
      return this.#set(wanted);
    }
    const now = performance.now();
    if (this.#heldUntil === undefined) {
      this.#heldUntil = now + sources.coalescing.ms;
      this.#hold();
    } else if (now >= this.#heldUntil) {
      this.#heldUntil = undefined;
      this.#set(true);
    }
  }

  /**
   * Checks again in each iteration of the event loop, because timers have a resolution of 1 ms,
   * which is too coarse.
   */
  #hold(): void {
    if (this.#looking) return;
    this.#looking = true;
    nextIteration(() => {
      this.#looking = false;
      if (this.#heldUntil === undefined) return;
      this.update();
      if (this.#heldUntil !== undefined) this.#hold();
    });
  }

  #set(asserted: boolean): void {
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    if (asserted) this.raised++;
    this.#line.set(asserted);
  }
}

/**
 * `wanted`: the line must be asserted. `urgent`: without delay, for the admin queue and for an I/O
 * queue that has enough entries.
 */
function pending(sources: InterruptSources): { wanted: boolean; urgent: boolean } {
  let wanted = false;
  let urgent = false;
  if (sources.masked) return { wanted, urgent };
  for (const queue of sources.queues) {
    if (!queue.interrupts || !queue.pending) continue;
    wanted = true;
    urgent ||= queue.id === 0 || queue.used >= sources.coalescing.entries;
  }
  return { wanted, urgent };
}
