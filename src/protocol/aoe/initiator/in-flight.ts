/**
 * Commands that were sent and are not answered yet: how many there may be, when each is to be sent again, and which of
 * them is taken for lost. Sends nothing itself.
 */
import { tagSpan } from '../session.js';
import type { Command } from './command.js';
import { RoundTrip } from './round-trip.js';
import { CongestionWindow } from './window.js';

/** A flush takes as long as a disk does, in ms. */
const flushMs = 1000;
/** Messages that the target's answers can be overtaken by without one of them being lost. */
const reorder = 8;
const maxWindow = 256;
const none: readonly Command[] = [];

export class InFlight {
  /** By tag, the oldest first. */
  readonly #commands = new Map<number, Command>();
  readonly #roundTrip = new RoundTrip();
  readonly #window = new CongestionWindow(1);
  #order = 0;
  /** When the target was last heard of, or began to owe an answer. */
  #heardAt = 0;

  get size(): number {
    return this.#commands.size;
  }

  get(tag: number): Command | undefined {
    return this.#commands.get(tag);
  }

  /** The target has buffers for so many messages. */
  limit(bufferCount: number): void {
    this.#window.limit(Math.min(bufferCount, maxWindow));
  }

  /** Whether one more may be sent, where `lastTag` is the tag that was given last. */
  hasRoom(lastTag: number): boolean {
    if (this.#commands.size >= this.#window.size) return false;
    const oldest = this.#commands.keys().next();
    return oldest.done === true || (lastTag - oldest.value) >>> 0 < tagSpan - 1;
  }

  /** Whether a write is under way that overlaps these sectors. */
  writes(start: number, end: number): boolean {
    for (const { kind, lba, count } of this.#commands.values()) {
      if (kind === 'write' && lba < end && start < lba + count) return true;
    }
    return false;
  }

  /** A command has its tag and is about to be sent. */
  add(command: Command): void {
    if (this.#commands.size === 0) this.#heardAt = performance.now();
    this.#commands.set(command.tag, command);
  }

  /** A copy of a command is sent. */
  sent(command: Command): void {
    const now = performance.now();
    command.copies++;
    command.sentAt = now;
    command.firstSentAt ??= now;
    command.order = ++this.#order;
    command.overtaken = 0;
  }

  /** The target gave a sign of life. */
  heard(): void {
    this.#heardAt = performance.now();
  }

  /** For how long the target has owed an answer without a sign of life, in ms. */
  get silence(): number {
    return this.#commands.size > 0 ? performance.now() - this.#heardAt : 0;
  }

  /** A command was answered. Gives those that are taken for lost now: answers to enough later ones came before theirs. */
  answered(command: Command): readonly Command[] {
    const now = performance.now();
    this.#heardAt = now;
    const isFlush = command.kind === 'flush';
    if (command.copies === 1 && !isFlush) this.#roundTrip.sample(now - command.sentAt);
    this.#window.answered();
    return isFlush ? none : this.#overtakenBy(command, now);
  }

  remove(command: Command): void {
    this.#commands.delete(command.tag);
  }

  /** Ms until one is due to be sent again; Infinity where none is under way. */
  nextDue(): number {
    let next = Infinity;
    const now = performance.now();
    for (const command of this.#commands.values()) {
      next = Math.min(next, command.sentAt + this.#timeoutOf(command) - now);
    }
    return next;
  }

  /** Those that are due to be sent again. */
  due(): Command[] {
    const now = performance.now();
    return [...this.#commands.values()].filter((command) => now - command.sentAt >= this.#timeoutOf(command));
  }

  /** As many as may be sent at once after a pause. */
  get burst(): number {
    return this.#window.size;
  }

  /** A command is sent again as no answer came in time. */
  late(command: Command): void {
    if (this.silence > 4 * this.#timeoutOf(command)) this.#window.collapse();
    else if (command.kind !== 'flush') this.#window.lost(command.sentAt);
  }

  /** Gives all of them, the oldest first, and forgets them. */
  takeAll(): Command[] {
    const all = [...this.#commands.values()];
    this.#commands.clear();
    return all;
  }

  /** Nothing comes back any more. */
  collapse(): void {
    this.#window.collapse();
  }

  #overtakenBy({ order }: Command, now: number): readonly Command[] {
    let lost: Command[] | undefined;
    for (const older of this.#commands.values()) {
      if (older.order >= order) {
        if (older.copies === 1) break;
        continue;
      }
      if (older.kind === 'flush' || ++older.overtaken < reorder || older.copies > 1) continue;
      if (now - older.sentAt < this.#roundTrip.late) continue;
      this.#window.lost(older.sentAt);
      (lost ??= []).push(older);
    }
    return lost ?? none;
  }

  #timeoutOf({ kind, copies }: Command): number {
    const timeout = this.#roundTrip.timeout(copies);
    return kind === 'flush' ? Math.max(timeout, flushMs) : timeout;
  }
}
