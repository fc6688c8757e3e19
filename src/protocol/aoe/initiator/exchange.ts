/**
 * Sends commands and takes answers while the target is connected. Each command is repeated with
 * the same tag until it is answered, and no copy of a write can land on newer data: with a Farbus
 * target by its session (../session.ts), with others by waiting (quarantine.ts). [AoE] 1.1, 2.6,
 * 3.1.
 *
 * Not here: finding a target again that does not answer (link.ts).
 */
import { AwakeClock } from '../../../base/awake-clock.js';
import type { Steps } from '../../../base/steps.js';
import { nextIteration } from '../../../base/event-loop.js';
import { abortedError, BlockError } from '../../../block/errors.js';
import type { Port } from '../../../network/ethernet/segment.js';
import { tagOf } from '../wire.js';
import { dataOf, readAnswer, Refusal } from './answer.js';
import type { SentCommand, Request } from './command.js';
import { needsOtherTag, putCommand, type Way } from './command-frame.js';
import type { Contact } from './contact.js';
import { Durability } from '../../remote/durability.js';
import { InFlight } from './in-flight.js';
import type { LinkCounters } from './link-options.js';
import { Quarantine } from './quarantine.js';

export interface ExchangeOptions {
  readonly shelf: number;
  readonly slot: number;
  readonly port: Port;
  readonly commandSeconds: number;
  readonly frameLifetimeMs: number;
  readonly counters: LinkCounters;
  readonly steps: Steps;
  /** Called when the target has been silent for a while: ask if it is there. */
  readonly ask: () => void;
  /**
   * Called when the target does not answer any more or a new session is needed. The callee calls
   * {@link Exchange.stop} and looks for the target.
   */
  readonly lost: (reason: string) => void;
}

/** Time of silence after which the target is queried, and after which it counts as gone, in ms. */
const askMs = 1000;
const goneMs = 4000;

/** The commands of one link, waiting and in flight. */
export class Exchange {
  readonly #options: ExchangeOptions;
  /** A sleep of this process is no silence of the target to one command. */
  readonly #clock = new AwakeClock();
  readonly #inFlight = new InFlight(this.#clock);
  readonly #durability = new Durability('target');
  readonly #quarantine: Quarantine;
  #way: Way | undefined;
  #waiting: SentCommand[] = [];
  #lastTag = crypto.getRandomValues(new Uint32Array(1))[0]!;
  #running = false;
  #pumping = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When sending was stopped last, in ms of the clock. */
  #stoppedAt = 0;
  /**
   * A sent command was given up: a new session must fence its copies before anything else is sent.
   */
  #fence = false;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#quarantine = new Quarantine(options.frameLifetimeMs);
  }

  /** The tag assigned last. */
  get lastTag(): number {
    return this.#lastTag;
  }

  /**
   * Copies of given-up commands may be in the network: the next session must supersede this one.
   */
  get needsFence(): boolean {
    return this.#fence;
  }

  /** True if no message sent to the target can change its disk any more. */
  get quiet(): boolean {
    if (this.#inFlight.size > 0 || this.#fence) return false;
    return this.#hasSession || this.#quarantine.empty;
  }

  /** Number of commands that wait to be sent. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** True if the target has been silent for so long that it was queried. */
  get isSilent(): boolean {
    return this.#inFlight.silence >= askMs;
  }

  push(command: SentCommand): void {
    this.#waiting.push(command);
    this.#pumpLater();
  }

  /**
   * Starts sending to a target. Commands that were in flight are sent again, with new tags if the
   * session is new.
   * @returns The error that flushes report if the target has lost acknowledged writes.
   */
  start(contact: Contact): BlockError | undefined {
    const { shelf, slot, port } = this.#options;
    const before = this.#way?.contact;
    this.#way = { shelf, slot, from: port.mac, contact };
    this.#fence = false;
    // The reconnect time is the limit while the target is lost, and may be longer.
    const away = this.#clock.now() - this.#stoppedAt;
    for (const command of this.#waiting) if (command.firstSentAt !== undefined) command.firstSentAt += away;
    let lost: BlockError | undefined;
    if (contact.grant) {
      if (before?.grant?.generation !== contact.grant.generation) {
        for (const command of this.#waiting) {
          command.tag = -1;
          command.copies = 0;
        }
      }
      lost = this.#durability.connected(contact.grant.memory.join());
      if (lost) this.#failFlushes(lost);
    }
    this.#inFlight.limit(contact.bufferCount);
    this.#running = true;
    return lost;
  }

  /** Sends waiting commands. Call it after {@link start}. */
  pump(): void {
    const waiting = this.#waiting;
    let kept = 0;
    let at = 0;
    let wait = Infinity;
    while (at < waiting.length && this.#running && this.#inFlight.hasRoom(this.#lastTag)) {
      const command = waiting[at++]!;
      const ms = this.#mustWait(command);
      if (ms > 0) {
        wait = Math.min(wait, ms);
        waiting[kept++] = command;
      } else {
        this.#send(command);
      }
    }
    if (at > kept) waiting.splice(kept, at - kept);
    this.#arm(wait);
  }

  /** The target answered a query. */
  heard(): void {
    this.#inFlight.heard();
  }

  /** Takes a response to an ATA command. Returns false if the response is malformed. */
  take(frame: Uint8Array, flags: number): boolean {
    const command = this.#inFlight.get(tagOf(frame));
    if (!command) {
      this.#options.counters.late++;
      return true;
    }
    const answer = readAnswer(frame, flags, command, this.#way!.contact.grant);
    if (answer === 'malformed') return false;
    if (answer === 'unknown session') {
      this.#fence = true;
      this.#options.lost('the target does not know this session any more');
      return true;
    }
    for (const older of this.#inFlight.answered(command)) this.#transmit(older);
    if (answer instanceof Refusal) this.#refused(command, answer.error);
    else this.#finish(command, answer ?? this.#done(command, frame));
    return true;
  }

  /** Stops sending until {@link start}. Commands in flight become waiting ones. */
  stop(): void {
    this.#running = false;
    this.#stoppedAt = this.#clock.now();
    this.#waiting.unshift(...this.#inFlight.takeAll());
    this.#inFlight.collapse();
    this.#waiting = this.#waiting.filter((command) => !this.#dropIfAborted(command));
  }

  /** Fails all commands, waiting or in flight. */
  giveUp(error: BlockError): void {
    const all = [...this.#inFlight.takeAll(), ...this.#waiting];
    this.#waiting = [];
    for (const command of all) {
      this.#dropped(command);
      command.request.finish(error);
    }
  }

  /**
   * The caller aborts a request. Commands that the target may be executing still wait for their
   * answer.
   */
  abandon(request: Request): void {
    this.#waiting = this.#waiting.filter((command) => command.request !== request || !this.#dropIfAborted(command));
    if (this.#fence && this.#running) this.#options.lost('a command was given up');
  }

  close(): void {
    this.#running = false;
    this.#clock.stop();
    clearTimeout(this.#timer);
  }

  get #hasSession(): boolean {
    return this.#way?.contact.grant !== undefined;
  }

  // --- sending ---

  #pumpLater(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.pump();
    });
  }

  /**
   * Time until a command may be sent without risk of a ghost write, in ms. Infinity: it must wait
   * for the answer to a write in flight.
   */
  #mustWait({ kind, lba, count }: SentCommand): number {
    if (kind !== 'write' || this.#hasSession) return 0;
    return this.#inFlight.writes(lba, lba + count) ? Infinity : this.#quarantine.wait(lba, lba + count);
  }

  #send(command: SentCommand): void {
    if (command.kind === 'flush' && command.firstSentAt === undefined) {
      const lost = this.#durability.flushing(command);
      if (lost) return command.request.finish(lost);
    }
    if (command.tag < 0) {
      do command.tag = this.#lastTag = (this.#lastTag + 1) >>> 0;
      while (needsOtherTag(command, this.#way!));
      if (this.#options.steps.on) this.#trace(command);
    }
    this.#clock.count(this.#options.commandSeconds * 1000);
    this.#inFlight.add(command);
    this.#transmit(command);
  }

  /**
   * [SYS] fig. 8, steps 262 and 264: the tag of the message, by which the server's steps can be
   * found.
   */
  #trace({ kind, lba, count, tag, request }: SentCommand): void {
    const what = kind === 'flush' ? 'flush' : `${kind} sectors ${lba}..${lba + count - 1}`;
    const step = kind === 'read' ? '262' : '264';
    this.#options.steps.step(request.traceId, step, `AoE message #${tag}: ${what}`, performance.now(), tag);
  }

  #transmit(command: SentCommand): void {
    const { port, counters } = this.#options;
    const frame = port.room();
    const length = putCommand(frame, command, this.#way!);
    if (length === undefined) return this.#finish(command, new BlockError('io', 'the memory of the write is gone'));
    this.#inFlight.sent(command);
    counters.sent++;
    if (command.copies > 1) counters.repeated++;
    port.send(frame.subarray(0, length));
  }

  // --- time ---

  /** Sets a timer for {@link #tick} when the next command is due, or after `wait` ms. */
  #arm(wait = Infinity): void {
    if (this.#timer !== undefined || !this.#running) return;
    const next = Math.min(wait, this.#inFlight.nextDue());
    if (next === Infinity) return;
    // Take received frames first: if this process was busy, answers may wait in the socket, and the
    // target is not late.
    this.#timer = setTimeout(() => nextIteration(() => this.#tick()), Math.max(5, next));
  }

  #tick(): void {
    this.#timer = undefined;
    if (!this.#running) return;
    const { commandSeconds, ask, lost } = this.#options;
    const { silence } = this.#inFlight;
    if (silence >= goneMs) return lost(`no answer for ${goneMs / 1000} seconds`);
    if (silence >= askMs) ask();
    let room = this.#inFlight.burst;
    for (const command of this.#inFlight.due()) {
      if (this.#clock.now() - command.firstSentAt! > commandSeconds * 1000) {
        this.#dropped(command);
        this.#finish(command, new BlockError('io', `the target has not answered for ${commandSeconds} seconds`));
        continue;
      }
      if (room-- <= 0) break;
      this.#inFlight.late(command);
      this.#transmit(command);
    }
    if (this.#fence) return lost('a command was given up');
    this.pump();
    this.#arm();
  }

  // --- what commands come to ---

  /** The command succeeded. Returns an error if the data of a read cannot be stored. */
  #done(command: SentCommand, frame: Uint8Array): BlockError | undefined {
    if (command.kind !== 'read') {
      if (command.kind === 'flush') this.#durability.flushed(command);
      else if (!command.fua) this.#durability.wrote();
      return undefined;
    }
    try {
      command.buffers!.copyFrom(dataOf(frame, command), command.at);
      return undefined;
    } catch (cause) {
      return new BlockError('io', 'the memory of the read is gone', { cause });
    }
  }

  #finish(command: SentCommand, error?: BlockError): void {
    this.#inFlight.remove(command);
    if (command.kind === 'write' && command.copies > 1 && !this.#hasSession) this.#quarantineBlocks(command);
    command.request.finish(error);
    this.#pumpLater();
  }

  #failFlushes(error: BlockError): void {
    const flushes = this.#waiting.filter(({ kind }) => kind === 'flush');
    if (flushes.length === 0) return;
    this.#waiting = this.#waiting.filter(({ kind }) => kind !== 'flush');
    for (const flush of flushes) flush.request.finish(error);
    this.#durability.told();
  }

  /**
   * The target refused a command. Fence copies of a write before the caller can write the blocks
   * again.
   */
  #refused(command: SentCommand, error: BlockError): void {
    if (command.kind === 'write') this.#dropped(command);
    this.#finish(command, error);
    if (this.#fence && this.#running) this.#options.lost(`a write was refused: ${error.message}`);
  }

  /** Copies of a finished write can still be in the network. */
  #quarantineBlocks(command: SentCommand): void {
    this.#quarantine.add(command.lba, command.lba + command.count, command.sentAt);
  }

  /** A sent command is given up without an answer. */
  #dropped(command: SentCommand): void {
    if (command.firstSentAt === undefined || command.kind === 'read') return;
    if (this.#hasSession) this.#fence = true;
    else this.#quarantineBlocks(command);
  }

  /** Ends a command that waits and that its caller has aborted. Returns true if so. */
  #dropIfAborted(command: SentCommand): boolean {
    if (!command.request.aborted) return false;
    this.#dropped(command);
    command.request.finish(abortedError());
    return true;
  }
}
