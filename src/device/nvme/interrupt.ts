/**
 * The controller's pin-based interrupt (NVMe 1.4 §7.5.1.1): asserted while a queue with interrupts has entries that were
 * not consumed and the mask allows it. An interrupt of an I/O queue is held back for a moment (§7.5, interrupt
 * coalescing) while more commands are under way, so that answers that come together cost the guest one interrupt.
 */
import { nextTurn } from '../../base/turn.js';
import type { InterruptLine } from '../../machine/engine.js';
import type { CompletionQueue } from './queues.js';

/** What decides about the line, asked whenever something changed. */
export interface InterruptSources {
  /** INTMS: bit 0 masks the pin. */
  readonly masked: boolean;
  readonly queues: Iterable<CompletionQueue>;
  /** Commands of I/O queues that are under way. */
  readonly underWay: number;
  readonly coalescing: { readonly ms: number; readonly entries: number };
}

export class Interrupt {
  /** How often the line went from low to high. */
  raised = 0;
  #line: InterruptLine = { set: () => undefined };
  #asserted = false;
  /** Until when an interrupt is held back, of `performance.now()`; undefined where none is. */
  #heldUntil: number | undefined;
  /** A look in the next turn is scheduled: one is enough, however often the guest changes the mask meanwhile. */
  #looking = false;
  readonly #sources: () => InterruptSources;

  constructor(sources: () => InterruptSources) {
    this.#sources = sources;
  }

  /** Connects the line that the board gave. */
  connect(line: InterruptLine): void {
    this.#line = line;
  }

  /** Sets the line as it must be now. */
  update(): void {
    const sources = this.#sources();
    const { wanted, urgent } = pending(sources);
    if (!wanted || this.#asserted || urgent || sources.underWay === 0 || sources.coalescing.ms === 0) {
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

  /** Looks again every turn: timers count whole milliseconds, which is too long. */
  #hold(): void {
    if (this.#looking) return;
    this.#looking = true;
    nextTurn(() => {
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

/** Whether the line is wanted, and whether at once: the admin queue's always, an I/O queue's when it has enough entries. */
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
