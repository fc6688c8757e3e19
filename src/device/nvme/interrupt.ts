/**
 * The controller's interrupts: by the interrupt pin (NVMe 1.4 §7.5.1.1), or by MSI-X (§7.5.1.4)
 * where the board has it and the driver switches it on.
 *
 * The line is asserted while a queue with interrupts enabled has entries that the driver has not
 * consumed, unless the interrupt is masked. While more commands are in flight, the interrupt of an
 * I/O queue is delayed for a moment (interrupt coalescing, §7.5), so that completions that come
 * together cost the guest one interrupt. A message is sent for each queue that has got entries
 * since its last message, and is delayed in the same way.
 */
import { nextIteration } from '../../base/event-loop.js';
import type { InterruptLine } from '../../machine/engine.js';
import { ioQueueLimit } from './features.js';
import type { CompletionQueue } from './queues.js';

/** MSI-X vectors: one for each completion queue. */
export const interruptVectors = ioQueueLimit + 1;

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
  /** Number of interrupts: the line went from low to high, or a message was sent. */
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

  /** True if interrupts are messages: the board has MSI-X, and the driver has switched it on. */
  get byMessage(): boolean {
    return this.#line.messages?.enabled === true;
  }

  /** Sets the line to the level that the current state requires, or sends messages. */
  update(): void {
    const sources = this.#sources();
    const { byMessage } = this;
    const { wanted, urgent } = pending(sources, byMessage);
    // While there are messages, the line follows without a delay: the engine keeps it from the
    // guest until it switches the messages off.
    if (byMessage) this.#setLine(pending(this.#sources(), false).wanted);
    if (!wanted || (this.#asserted && !byMessage) || urgent || sources.inFlight === 0 || sources.coalescing.ms === 0) {
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

  /** Sends a message for each queue that calls for one. */
  #sendMessages(): void {
    for (const queue of this.#sources().queues) {
      if (!calls(queue, true)) continue;
      queue.unsignalled = false;
      this.raised++;
      this.#line.messages!.signal(queue.vector);
    }
  }

  #set(asserted: boolean): void {
    if (!this.byMessage) this.#setLine(asserted);
    else if (asserted) this.#sendMessages();
  }

  #setLine(asserted: boolean): void {
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    if (asserted && !this.byMessage) this.raised++;
    this.#line.set(asserted);
  }
}

/** True if the queue calls for an interrupt. */
function calls(queue: CompletionQueue, byMessage: boolean): boolean {
  return queue.interrupts && queue.pending && (!byMessage || queue.unsignalled);
}

/**
 * `wanted`: the line must be asserted, or a message sent. `urgent`: without delay, for the admin
 * queue and for an I/O queue that has enough entries.
 */
function pending(sources: InterruptSources, byMessage: boolean): { wanted: boolean; urgent: boolean } {
  let wanted = false;
  let urgent = false;
  // §3.1.3: the mask is for the pin only.
  if (sources.masked && !byMessage) return { wanted, urgent };
  for (const queue of sources.queues) {
    if (!calls(queue, byMessage)) continue;
    wanted = true;
    urgent ||= queue.id === 0 || queue.used >= sources.coalescing.entries;
  }
  return { wanted, urgent };
}
