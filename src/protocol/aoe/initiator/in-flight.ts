/**
 * The commands in flight: how many there may be, when each is due to be sent again, and which ones
 * are regarded as lost. It sends nothing itself.
 */
import type { AwakeClock } from '../../../base/awake-clock.js';
import { tagSpan } from '../session.js';
import type { SentCommand } from './command.js';
import { RoundTrip } from './round-trip.js';
import { CongestionWindow } from './window.js';

/** Minimum time before a flush is sent again, in ms: a flush takes as long as the disk needs. */
const flushMs = 1000;
/**
 * A command is regarded as lost once this many commands sent after it are answered (chosen, not
 * measured). Fewer may be mere reordering.
 */
const reorder = 8;
/** Maximum number of commands in flight, whatever the target can queue. */
const maxWindow = 256;
const none: readonly SentCommand[] = [];

export class InFlight {
  /** Commands by tag, the oldest first. */
  readonly #commands = new Map<number, SentCommand>();
  readonly #roundTrip = new RoundTrip();
  readonly #window = new CongestionWindow();
  readonly #clock: AwakeClock;
  #order = 0;
  /**
   * Time of the last frame from the target, or of the first command if none was in flight before.
   */
  #heardAt = 0;

  /** @param clock for {@link SentCommand.firstSentAt} */
  constructor(clock: AwakeClock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#commands.size;
  }

  get(tag: number): SentCommand | undefined {
    return this.#commands.get(tag);
  }

  /** Sets the number of messages that the target can queue. */
  limit(bufferCount: number): void {
    this.#window.limit(Math.min(bufferCount, maxWindow));
  }

  /** True if one more command may be sent. `lastTag` is the tag assigned last. */
  hasRoom(lastTag: number): boolean {
    if (this.#commands.size >= this.#window.size) return false;
    const oldest = this.#commands.keys().next();
    return oldest.done === true || (lastTag - oldest.value) >>> 0 < tagSpan - 1;
  }

  /** True if a write in flight overlaps these sectors. */
  writes(start: number, end: number): boolean {
    for (const { kind, lba, count } of this.#commands.values()) {
      if (kind === 'write' && lba < end && start < lba + count) return true;
    }
    return false;
  }

  /** Adds a command that has a tag and is about to be sent. */
  add(command: SentCommand): void {
    if (this.#commands.size === 0) this.#heardAt = performance.now();
    this.#commands.set(command.tag, command);
  }

  /** Records that a copy of a command is sent. */
  sent(command: SentCommand): void {
    const now = performance.now();
    command.copies++;
    command.sentAt = now;
    command.firstSentAt ??= this.#clock.now();
    command.order = ++this.#order;
    command.overtaken = 0;
  }

  /** Records a frame from the target that answers no command. */
  heard(): void {
    this.#heardAt = performance.now();
  }

  /** Time for which commands have been in flight without a frame from the target, in ms. */
  get silence(): number {
    return this.#commands.size > 0 ? performance.now() - this.#heardAt : 0;
  }

  /**
   * Records an answer. Returns the commands that are now regarded as lost, because enough commands
   * sent after them were answered first.
   */
  answered(command: SentCommand): readonly SentCommand[] {
    const now = performance.now();
    this.#heardAt = now;
    const isFlush = command.kind === 'flush';
    if (command.copies === 1 && !isFlush) this.#roundTrip.sample(now - command.sentAt);
    this.#window.answered();
    return isFlush ? none : this.#overtakenBy(command, now);
  }

  remove(command: SentCommand): void {
    this.#commands.delete(command.tag);
  }

  /** Time until a command is due to be sent again, in ms; Infinity if none is in flight. */
  nextDue(): number {
    let next = Infinity;
    const now = performance.now();
    for (const command of this.#commands.values()) {
      next = Math.min(next, command.sentAt + this.#timeoutOf(command) - now);
    }
    return next;
  }

  /** The commands that are due to be sent again. */
  due(): SentCommand[] {
    const now = performance.now();
    return [...this.#commands.values()].filter((command) => now - command.sentAt >= this.#timeoutOf(command));
  }

  /** Maximum number of commands to send again at once after a pause. */
  get burst(): number {
    return this.#window.size;
  }

  /** Records that a command is sent again because no answer came in time. */
  late(command: SentCommand): void {
    if (this.silence > 4 * this.#timeoutOf(command)) this.#window.collapse();
    else if (command.kind !== 'flush') this.#window.lost(command.sentAt);
  }

  /** Removes all commands and returns them, the oldest first. */
  takeAll(): SentCommand[] {
    const all = [...this.#commands.values()];
    this.#commands.clear();
    return all;
  }

  /** Shrinks the window to one message: the target does not answer. */
  collapse(): void {
    this.#window.collapse();
  }

  #overtakenBy({ order }: SentCommand, now: number): readonly SentCommand[] {
    let lost: SentCommand[] | undefined;
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

  #timeoutOf({ kind, copies }: SentCommand): number {
    const timeout = this.#roundTrip.timeout(copies);
    return kind === 'flush' ? Math.max(timeout, flushMs) : timeout;
  }
}
