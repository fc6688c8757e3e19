/**
 * The doorbells of an NVMe controller (NVMe 1.4 §3.1.24, §3.1.25): how it learns of new commands
 * and of consumed completions. The driver writes registers, or leaves the values in guest memory
 * (shadow-doorbells.ts), if the board can raise an event at such a write instead of an exit.
 *
 * A driver that leaves impossible values is told by an asynchronous event (§5.2, figure 146), as
 * for registers. The work of one call is bounded, however often the guest changes the values.
 */
import { nextIteration } from '../../base/event-loop.js';
import type { WriteEvents } from '../../machine/engine.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import type { Trap } from '../../machine/trap.js';
import { AsyncEvent, Register } from '../../spec/nvme.js';
import type { CompletionQueue, SubmissionQueue } from './queues.js';
import { ShadowDoorbells, type ShadowState } from './shadow-doorbells.js';

/** Most rounds in which one call reads the shadow doorbells. Chosen, not measured. */
const maxRounds = 4;

/** The parts of the command processor that the doorbells use. */
export interface DoorbellHost {
  readonly memory: GuestMemory;
  readonly submissionQueues: ReadonlyMap<number, SubmissionQueue>;
  readonly completionQueues: ReadonlyMap<number, CompletionQueue>;
  running(): boolean;
  /** True if interrupts are messages, so that consuming a completion changes no line. */
  byMessage(): boolean;
  /** Fetches the commands that wait in a queue, or in all. */
  fetch(queue: SubmissionQueue, trap?: Trap): void;
  fetchAll(trap?: Trap): void;
  /** The driver has consumed completions. */
  consumed(queue: CompletionQueue, count: number): void;
  /** The driver has written a doorbell that does not exist, or an impossible value. */
  invalid(information: number): void;
}

export class Doorbells {
  readonly #host: DoorbellHost;
  #events: WriteEvents | undefined;
  #shadow: ShadowDoorbells | undefined;
  /** The queues whose shadow doorbells are in use. */
  readonly #shadowed = new Set<SubmissionQueue | CompletionQueue>();
  #looking = false;

  constructor(host: DoorbellHost) {
    this.#host = host;
  }

  /** Connects the write events of the board. */
  connect(events: WriteEvents | undefined): void {
    this.#events = events;
  }

  /** True if the board has events for writes: otherwise shadow doorbells would spare no exit. */
  get canShadow(): boolean {
    return this.#events !== undefined;
  }

  /** Handles a write to the register of a doorbell. */
  write(index: number, value: number, trap?: Trap): void {
    const id = index >> 1;
    const queue = index % 2 === 0 ? this.#host.submissionQueues.get(id) : this.#host.completionQueues.get(id);
    if (!queue) return this.#host.invalid(AsyncEvent.invalidDoorbellRegister);
    // The driver writes the register after the shadow doorbell, and the event may be late.
    if (this.#shadowed.has(queue)) return this.look(trap);
    if ('cqid' in queue) {
      if (!this.#take(queue, value)) return;
      return this.#host.fetch(queue, trap);
    }
    if (!this.#consume(queue, value)) return;
    // Commands may have waited in their submission queues for room in this completion queue.
    this.#host.fetchAll();
  }

  /**
   * §5.7 Doorbell Buffer Config: from now on, the doorbells of I/O queues are in guest memory.
   * @returns false if the buffers are not in guest memory
   */
  shadow(state: ShadowState): boolean {
    const shadow = new ShadowDoorbells(this.#host.memory, state);
    if (!shadow.placed) return false;
    this.#shadow = shadow;
    this.#shadowed.clear();
    this.follow();
    return true;
  }

  /** Must be called after queues were created or deleted, before the driver is told. */
  follow(): void {
    const { submissionQueues, completionQueues } = this.#host;
    if (!this.#shadow) return;
    const present = [...submissionQueues.values(), ...completionQueues.values()].filter(({ id }) => id !== 0);
    for (const queue of this.#shadowed) if (!present.includes(queue)) this.#shadowed.delete(queue);
    for (const queue of present) {
      if (this.#shadowed.has(queue)) continue;
      this.#shadowed.add(queue);
      // The buffer may still have the value of a deleted queue with this number.
      const [index, value] = 'cqid' in queue ? [2 * queue.id, queue.tail] : [2 * queue.id + 1, queue.head];
      this.#shadow.store(index, value);
      this.#shadow.expect(index, value);
    }
    const offsets = [...submissionQueues.keys()].filter((id) => id !== 0).map((id) => Register.doorbells + 8 * id);
    // Only tails: a driver that is asked for its head waits for what follows (an interrupt line).
    this.#events?.watch(offsets, () => this.look());
  }

  /** Reads the shadow doorbells: fetches new commands, and frees consumed completions. */
  look(trap?: Trap): void {
    for (let round = 0; round < maxRounds; round++) {
      if (!this.#shadow || !this.#host.running()) return;
      for (const queue of this.#host.completionQueues.values()) this.refresh(queue);
      let found = false;
      for (const queue of this.#host.submissionQueues.values()) found = this.#lookAt(queue) || found;
      this.#host.fetchAll(trap);
      // The last round has seen the values that the driver was asked to pass.
      if (!found) return;
    }
    this.#lookSoon();
  }

  /**
   * Takes the head of a completion queue from its shadow doorbell.
   * @param ask have the driver write the register at its next change
   */
  refresh(queue: CompletionQueue, ask = !this.#host.byMessage()): void {
    const shadow = this.#shadow;
    if (!shadow || !this.#shadowed.has(queue)) return;
    const index = 2 * queue.id + 1;
    for (let round = 0; round < maxRounds; round++) {
      const head = shadow.load(index);
      if (head === undefined || (head !== queue.head && !this.#consume(queue, head))) return;
      // A value that the driver has passed already is not passed again until the queue wraps.
      shadow.expect(index, ask ? queue.head : (queue.head - 1) & 0xffff);
      if (!ask || shadow.load(index) === queue.head) return;
    }
    this.#lookSoon();
  }

  /**
   * True if the completion of one more command fits. If not, the driver will tell when it has
   * consumed completions.
   */
  hasRoom(queue: CompletionQueue): boolean {
    if (!queue.hasRoom) this.refresh(queue, true);
    return queue.hasRoom;
  }

  /** A controller reset: back to registers. */
  reset(): void {
    if (this.#shadow) this.#events?.watch([], () => undefined);
    this.#shadow = undefined;
    this.#shadowed.clear();
  }

  save(): ShadowState | undefined {
    return this.#shadow?.state;
  }

  /** @returns true if new commands may be in the queue */
  #lookAt(queue: SubmissionQueue): boolean {
    if (!this.#shadowed.has(queue)) return false;
    const tail = this.#shadow!.load(2 * queue.id);
    if (tail === undefined || tail === queue.tail || !this.#take(queue, tail)) return false;
    this.#shadow!.expect(2 * queue.id, tail);
    return true;
  }

  #take(queue: SubmissionQueue, tail: number): boolean {
    if (tail >= queue.size) {
      this.#host.invalid(AsyncEvent.invalidDoorbellValue);
      return false;
    }
    queue.tail = tail;
    return true;
  }

  #consume(queue: CompletionQueue, head: number): boolean {
    const count = queue.consume(this.#host.memory, head);
    if (count < 0) this.#host.invalid(AsyncEvent.invalidDoorbellValue);
    else this.#host.consumed(queue, count);
    return count >= 0;
  }

  /** The guest changes the values faster than they are read: other work comes first. */
  #lookSoon(): void {
    if (this.#looking) return;
    this.#looking = true;
    nextIteration(() => {
      this.#looking = false;
      this.look();
    });
  }
}
