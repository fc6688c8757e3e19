/**
 * Submission and completion queues in guest memory (NVMe 1.4 §4.1, §4.6).
 *
 * Left out: queues that are not physically contiguous (CAP.CQR is 1).
 */
import type { GuestMemory } from '../../machine/guest-memory.js';
import { decodeCommand, type NvmeCommand } from './command.js';
import { cqeSize, sqeSize } from '../../spec/nvme.js';
import { StateFault, savedNumber } from '../saved-state.js';
import { ioQueueLimit } from './features.js';

/** Largest number of entries of an admin queue (AQA, §3.1.7), and of any queue here. */
const maxEntries = 4096;

/** A submission queue's address and state, as a snapshot holds it. */
export interface SubmissionQueueState {
  readonly id: number;
  readonly base: number;
  readonly size: number;
  readonly cqid: number;
  readonly head: number;
  readonly tail: number;
}

/**
 * A submission queue: the guest's driver writes commands into it and the controller fetches them.
 */
export class SubmissionQueue {
  readonly id: number;
  /** Guest-physical address of the first entry. Entries have 64 bytes. */
  readonly base: number;
  /** Number of entries. One of them always stays empty (§4.1). */
  readonly size: number;
  readonly cqid: number;
  head = 0;
  tail = 0;
  /** True while the queue is being deleted: its commands are aborted and none are fetched. */
  deleted = false;

  constructor(id: number, base: number, size: number, cqid: number) {
    this.id = id;
    this.base = base;
    this.size = size;
    this.cqid = cqid;
  }

  get waiting(): boolean {
    return this.head !== this.tail;
  }

  /** Fetches the next command. Returns undefined if the queue is not in guest memory. */
  fetch(memory: GuestMemory): NvmeCommand | undefined {
    const entry = memory.view(this.base + this.head * sqeSize, sqeSize);
    if (!entry) return undefined;
    this.head = (this.head + 1) % this.size;
    return decodeCommand(entry);
  }

  save(): SubmissionQueueState {
    const { id, base, size, cqid, head, tail } = this;
    return { id, base, size, cqid, head, tail };
  }

  /** @throws StateFault */
  static restore(state: SubmissionQueueState): SubmissionQueue {
    checkQueue(state);
    savedNumber(state.cqid, ioQueueLimit);
    const queue = new SubmissionQueue(state.id, state.base, state.size, state.cqid);
    queue.head = state.head;
    queue.tail = state.tail;
    return queue;
  }
}

/** The fields of a completion queue entry (§4.6, figure 121). */
export interface Completion {
  readonly sqid: number;
  readonly sqHead: number;
  readonly cid: number;
  /** Status field without the phase tag: a `Status`, with `doNotRetry` if it applies. */
  readonly status: number;
  readonly result: number;
}

export interface CompletionQueueState {
  readonly id: number;
  readonly base: number;
  readonly size: number;
  readonly interrupts: boolean;
  /** Default: 0. */
  readonly vector?: number;
  readonly head: number;
  readonly tail: number;
  readonly phase: number;
  /** Completions of Asynchronous Event Requests that wait for room in the queue. */
  readonly overflow: readonly Completion[];
}

/**
 * A completion queue: the controller posts completions into it and the driver consumes them.
 *
 * The controller must not overrun a full queue (§4.1), and a driver that consumes nothing must not
 * make it collect completions without limit. So a command is fetched only if there is room for its
 * completion. Asynchronous Event Requests reserve no room because they may wait forever. Their
 * completions wait in an overflow list, whose length is bounded by the limit of such requests.
 */
export class CompletionQueue {
  readonly id: number;
  readonly base: number;
  readonly size: number;
  /** Interrupts are enabled: IEN in CDW11 of Create I/O Completion Queue (§5.3). */
  readonly interrupts: boolean;
  /** The MSI-X vector: IV in CDW11 (§5.3). */
  readonly vector: number;
  /** True if entries were posted since the last message for this queue. */
  unsignalled = false;
  head = 0;
  tail = 0;
  /** Commands that were fetched and whose completion will be posted here. */
  expected = 0;
  #phase = 1;
  readonly #overflow: Completion[] = [];

  constructor(id: number, base: number, size: number, interrupts: boolean, vector = 0) {
    this.id = id;
    this.vector = vector;
    this.base = base;
    this.size = size;
    this.interrupts = interrupts;
  }

  /** True if there are entries that the driver has not consumed. */
  get pending(): boolean {
    return this.head !== this.tail;
  }

  /** Number of entries that the driver has not consumed. */
  get used(): number {
    return (this.tail - this.head + this.size) % this.size;
  }

  /** True if the completion of one more command fits. */
  get hasRoom(): boolean {
    return this.used + this.expected + this.#overflow.length < this.size - 1;
  }

  /**
   * Posts a completion, or keeps it until there is room. Returns false if the queue is not in guest
   * memory.
   */
  post(memory: GuestMemory, completion: Completion): boolean {
    if ((this.tail + 1) % this.size === this.head) {
      this.#overflow.push(completion);
      return true;
    }
    const address = this.base + this.tail * cqeSize;
    const entry = memory.view(address, cqeSize);
    if (!entry) return false;
    const words = new Int32Array(entry.buffer, entry.byteOffset, cqeSize / 4);
    words[0] = completion.result;
    words[1] = 0;
    words[2] = (completion.sqid << 16) | completion.sqHead;
    // The guest may look while this is written. It takes an entry when it sees the phase tag, so
    // the tag must come last, and together with the status.
    Atomics.store(words, 3, (((completion.status << 1) | this.#phase) << 16) | completion.cid);
    memory.written(address, cqeSize);
    this.unsignalled = true;
    this.tail++;
    if (this.tail === this.size) {
      this.tail = 0;
      this.#phase ^= 1;
    }
    return true;
  }

  /**
   * Records that the driver has consumed the entries before `head` (doorbell CQyHDBL).
   * @returns the number of entries consumed, or -1 if the driver cannot have reached that entry
   *   (§5.2, invalid doorbell write value)
   */
  consume(memory: GuestMemory, head: number): number {
    if (head >= this.size) return -1;
    const consumed = (head - this.head + this.size) % this.size;
    if (consumed > this.used) return -1;
    this.head = head;
    while (this.#overflow.length > 0 && (this.tail + 1) % this.size !== this.head) {
      this.post(memory, this.#overflow.shift()!);
    }
    return consumed;
  }

  save(): CompletionQueueState {
    const { id, base, size, interrupts, vector, head, tail } = this;
    return { id, base, size, interrupts, vector, head, tail, phase: this.#phase, overflow: [...this.#overflow] };
  }

  /** @throws StateFault */
  static restore(state: CompletionQueueState): CompletionQueue {
    checkQueue(state);
    savedNumber(state.phase, 1);
    savedNumber(state.vector ?? 0, ioQueueLimit);
    for (const { sqid, sqHead, cid, status, result } of state.overflow)
      for (const field of [sqid, sqHead, cid, status, result]) savedNumber(field, 0xffffffff);
    const queue = new CompletionQueue(state.id, state.base, state.size, state.interrupts, state.vector);
    queue.head = state.head;
    queue.tail = state.tail;
    queue.#phase = state.phase;
    queue.#overflow.push(...state.overflow);
    return queue;
  }
}

/** Checks the members that both kinds of queues have. */
function checkQueue({ id, base, size, head, tail }: SubmissionQueueState | CompletionQueueState): void {
  savedNumber(id, ioQueueLimit);
  savedNumber(base, Number.MAX_SAFE_INTEGER, 4096);
  if (savedNumber(size, maxEntries) < 2) throw new StateFault();
  savedNumber(head, size - 1);
  savedNumber(tail, size - 1);
}
