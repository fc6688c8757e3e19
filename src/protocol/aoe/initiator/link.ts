/**
 * The initiator's side of one target: ATA commands on their way, each repeated under the same tag until it is answered;
 * what is done when nothing comes back; and that no copy of a write can land on newer data. With a Farbus target that is
 * by its session (../session.ts), with others by time (quarantine.ts). Source: [AoE] 1.1, 2.6, 3.1.
 */
import { FarbusError, messageOf } from '../../../base/errors.js';
import { getU16 } from '../../../base/big-endian.js';
import { ThrottledLogger, type Logger, type LogLevel } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import { nextTurn, sleep } from '../../../base/turn.js';
import type { RequestOptions } from '../../../block/device.js';
import { BlockError } from '../../../block/errors.js';
import { broadcastMac, macKey, type Mac } from '../../../network/ethernet/mac.js';
import { frameHeaderSize, type Port, type Segment } from '../../../network/ethernet/segment.js';
import type { DiskFacts } from '../identify.js';
import { nonceSize, tagSpan } from '../session.js';
import { AOE_VERSION, AoeCommand, Flag, Header, sectorsOf } from '../spec.js';
import { configQuery, flagsOf, isAoe, minFrame, tagOf, versionOf } from '../wire.js';
import { dataOf, readAnswer } from './answer.js';
import { Command, Request, type CommandParts } from './command.js';
import { putCommand } from './command-frame.js';
import { breachOf, makeContact, type Contact } from './contact.js';
import { Durability } from './durability.js';
import { Messenger } from './messenger.js';
import { Quarantine } from './quarantine.js';
import { RoundTrip } from './round-trip.js';
import { CongestionWindow } from './window.js';

/**
 * `connected`; `reconnecting`: the target does not answer, and requests wait; `lost`: the time for that is over and
 * requests fail at once, though it goes on trying; `closed`.
 */
export type AoeState = 'connected' | 'reconnecting' | 'lost' | 'closed';

export interface LinkOptions {
  readonly shelf: number;
  readonly slot: number;
  readonly mac: Mac | undefined;
  readonly connectSeconds: number;
  /** Gives up looking for the target at first. */
  readonly signal: AbortSignal | undefined;
  readonly reconnectSeconds: number;
  /** How long a single command may be without an answer of a target that is there. */
  readonly commandSeconds: number;
  /** How long a frame can be on its way at most: quarantine.ts. */
  readonly frameLifetimeMs: number;
  readonly log: Logger;
  readonly steps: Steps;
  readonly onState: (state: AoeState, detail: string) => void;
}

/** What has happened since the link was opened. */
export interface LinkCounters {
  /** Messages with commands, and how many of them were sent again. */
  sent: number;
  repeated: number;
  /** Answers to nothing that is under way: late ones and copies. */
  late: number;
  /** Messages that made no sense, or were from somebody else. */
  malformed: number;
}

/** Silence after which the target is asked whether it is there, and after which it is taken for gone, in ms. */
const askMs = 1000;
const goneMs = 4000;
/** Pause between queries for a target that is gone, in ms. */
const queryMs = 250;
/** A flush takes as long as a disk does. */
const flushMs = 1000;
/** Messages that the target's answers can be overtaken by without one of them being lost. */
const reorder = 8;
const closeMs = 5000;
const maxWindow = 256;

export class Link {
  readonly counters: LinkCounters = { sent: 0, repeated: 0, late: 0, malformed: 0 };
  readonly #options: LinkOptions;
  readonly #name: string;
  readonly #port: Port;
  readonly #messenger: Messenger;
  readonly #log: ThrottledLogger;
  readonly #stop = new AbortController();
  readonly #roundTrip = new RoundTrip();
  readonly #window = new CongestionWindow(1);
  readonly #durability = new Durability();
  readonly #quarantine: Quarantine;
  readonly #frame: Uint8Array;
  readonly #segmentSectors: number;
  #contact!: Contact;
  /** Sectors of one message: of the first contact, which every later one has to take. */
  #sectors = 1;
  #nonce = newNonce();
  #lastTag = crypto.getRandomValues(new Uint32Array(1))[0]!;
  #questions = 0;
  #state: AoeState = 'reconnecting';
  #failure: BlockError | undefined;
  #patience: number;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #waiting: Command[] = [];
  /** By tag, the oldest first. */
  readonly #underWay = new Map<number, Command>();
  /** A command that was sent was given up: its copies are to be fenced before anything else is sent. */
  #fence = false;
  #pumping = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #order = 0;
  /** When the target was last heard of, or began to owe an answer. */
  #heardAt = 0;

  private constructor(segment: Segment, options: LinkOptions) {
    this.#options = options;
    this.#name = `aoe:${options.shelf}.${options.slot}@${segment.name}`;
    this.#patience = options.reconnectSeconds * 1000;
    this.#log = new ThrottledLogger(options.log);
    this.#quarantine = new Quarantine(options.frameLifetimeMs);
    this.#frame = new Uint8Array(Math.max(minFrame, frameHeaderSize + segment.mtu));
    this.#segmentSectors = sectorsOf(segment.mtu);
    const onFrame = (frame: Uint8Array): void => this.#receive(frame);
    this.#port = segment.attach(options.mac ? { mac: options.mac, onFrame } : { onFrame });
    // Half of all tags away from the sequence: these are no part of it.
    this.#messenger = new Messenger(this.#port, () => (this.#lastTag + 2 ** 31 + (this.#questions++ % 2 ** 20)) >>> 0);
  }

  /** Finds the target. Rejects with a FarbusError. */
  static async open(segment: Segment, options: LinkOptions): Promise<Link> {
    const link = new Link(segment, options);
    const { connectSeconds } = options;
    const control = new AbortController();
    const timer = setTimeout(() => {
      control.abort(
        new FarbusError(`nobody answers within ${connectSeconds} seconds: is the target on this segment and up?`),
      );
    }, connectSeconds * 1000);
    const abort = (): void => control.abort(options.signal!.reason);
    options.signal?.addEventListener('abort', abort);
    try {
      if (options.signal?.aborted) abort();
      if (link.#segmentSectors < 1) throw new FarbusError('frames of this segment carry no sector: raise its MTU');
      const contact = await link.#establish(control.signal);
      link.#sectors = Math.min(contact.sectors, link.#segmentSectors);
      link.#adopt(contact);
      return link;
    } catch (error) {
      link.#port.close();
      throw new FarbusError(`${link.#name}: ${messageOf(error)}`, { cause: error });
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', abort);
    }
  }

  get name(): string {
    return this.#name;
  }

  get disk(): DiskFacts {
    return this.#contact.disk;
  }

  /** Most sectors of one command. */
  get sectors(): number {
    return this.#sectors;
  }

  /** The target says that it takes no writes. */
  get readOnly(): boolean {
    return this.#contact.grant?.readOnly ?? false;
  }

  /** The target knows every copy of a command. */
  get hasSession(): boolean {
    return this.#contact.grant !== undefined;
  }

  /** Runs the commands of one request. Settles when all are over: with the first error if there is one. */
  run(parts: readonly CommandParts[], options: RequestOptions): Promise<void> {
    const request = new Request(parts.length, options, (aborted) => this.#abandon(aborted));
    const error = this.#state === 'closed' ? new BlockError('closed', 'the device is closed') : this.#failure;
    for (const part of parts) {
      if (error) request.finish(error);
      else this.#waiting.push(new Command(request, part));
    }
    if (!error) this.#pumpLater();
    return request.done;
  }

  /** From now on requests do not wait long for a target that is gone. */
  hurry(): void {
    this.#patience = Math.min(this.#patience, closeMs);
    if (this.#state === 'reconnecting') this.#setDeadline();
  }

  close(): void {
    if (this.#state === 'closed') return;
    this.#enter('closed', '');
    clearTimeout(this.#deadline);
    clearTimeout(this.#timer);
    this.#stop.abort(new FarbusError('closed'));
    this.#giveUp(new BlockError('closed', 'the device is closed'));
    this.#port.close();
  }

  // --- sending ---

  #pumpLater(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    const waiting = this.#waiting;
    let kept = 0;
    let at = 0;
    let wait = Infinity;
    while (at < waiting.length && this.#hasRoom()) {
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

  #hasRoom(): boolean {
    if (this.#state !== 'connected' || this.#underWay.size >= this.#window.size) return false;
    const oldest = this.#underWay.keys().next();
    return oldest.done === true || (this.#lastTag - oldest.value) >>> 0 < tagSpan - 1;
  }

  /** Ms until a command may be sent that a copy of an older one could spoil; Infinity: when others are over. */
  #mustWait(command: Command): number {
    if (command.kind !== 'write' || this.hasSession) return 0;
    const end = command.lba + command.count;
    for (const other of this.#underWay.values()) {
      if (other.kind === 'write' && other.lba < end && command.lba < other.lba + other.count) return Infinity;
    }
    return this.#quarantine.wait(command.lba, end);
  }

  #send(command: Command): void {
    if (command.kind === 'flush' && command.firstSentAt === undefined) {
      const lost = this.#durability.flushing(command);
      if (lost) return command.request.finish(lost);
    }
    if (command.tag < 0) {
      command.tag = this.#lastTag = (this.#lastTag + 1) >>> 0;
      if (this.#options.steps.on) this.#trace(command);
    }
    if (this.#underWay.size === 0) this.#heardAt = performance.now();
    this.#underWay.set(command.tag, command);
    this.#transmit(command);
  }

  /** [SYS] fig. 8, steps 262 and 264: by which message, so that the server's steps can be found. */
  #trace({ kind, lba, count, tag, request }: Command): void {
    const what = kind === 'flush' ? 'flush' : `${kind} sectors ${lba}..${lba + count - 1}`;
    const step = kind === 'read' ? '262' : '264';
    this.#options.steps.step(request.tag, step, `AoE message #${tag}: ${what}`, performance.now(), tag);
  }

  #transmit(command: Command): void {
    const frame = this.#frame;
    const { shelf, slot } = this.#options;
    const length = putCommand(frame, command, { shelf, slot, from: this.#port.mac, contact: this.#contact });
    if (length === undefined) return this.#finish(command, new BlockError('io', 'the memory of the write is gone'));
    const now = performance.now();
    command.copies++;
    command.sentAt = now;
    command.firstSentAt ??= now;
    command.order = ++this.#order;
    command.overtaken = 0;
    this.counters.sent++;
    if (command.copies > 1) this.counters.repeated++;
    this.#port.send(frame.subarray(0, length));
  }

  // --- time ---

  /** Sees to it that {@link #tick} comes when the next command is due, or after `wait` ms. */
  #arm(wait = Infinity): void {
    if (this.#timer !== undefined || this.#state !== 'connected') return;
    let next = wait;
    const now = performance.now();
    for (const command of this.#underWay.values()) {
      next = Math.min(next, command.sentAt + this.#timeoutOf(command) - now);
    }
    if (next === Infinity) return;
    // Not before what has arrived in the meantime has been taken: a process that was kept busy blames nobody.
    this.#timer = setTimeout(() => nextTurn(() => this.#tick()), Math.max(5, next));
  }

  #timeoutOf({ kind, copies }: Command): number {
    const timeout = this.#roundTrip.timeout(copies);
    return kind === 'flush' ? Math.max(timeout, flushMs) : timeout;
  }

  #tick(): void {
    this.#timer = undefined;
    if (this.#state !== 'connected') return;
    const now = performance.now();
    const silent = this.#underWay.size > 0 ? now - this.#heardAt : 0;
    if (silent >= goneMs) return this.#lost(`no answer for ${goneMs / 1000} seconds`);
    if (silent >= askMs) {
      this.#port.send(configQuery(broadcastMac, this.#port.mac, this.#options.shelf, this.#options.slot, 0));
    }
    let room = this.#window.size;
    for (const command of this.#underWay.values()) {
      if (now - command.sentAt < this.#timeoutOf(command)) continue;
      if (now - command.firstSentAt! > this.#options.commandSeconds * 1000) {
        this.#dropped(command);
        const what = `the target has not answered for ${this.#options.commandSeconds} seconds`;
        this.#finish(command, new BlockError('io', what));
        continue;
      }
      if (room-- <= 0) break;
      if (silent > 4 * this.#timeoutOf(command)) this.#window.collapse();
      else if (command.kind !== 'flush') this.#window.lost(command.sentAt);
      this.#transmit(command);
    }
    if (this.#fence) return this.#lost('a command was given up');
    this.#pump();
    this.#arm();
  }

  // --- receiving ---

  #receive(frame: Uint8Array): void {
    if (!isAoe(frame)) return;
    const flags = flagsOf(frame);
    if (!(flags & Flag.response)) return;
    const { shelf, slot } = this.#options;
    if (getU16(frame, Header.shelf) !== shelf || frame[Header.slot] !== slot) return;
    if (versionOf(frame) !== AOE_VERSION) return this.#malformed();
    if (this.#messenger.take(frame)) return;
    if (this.#state !== 'connected') return;
    const command = frame[Header.command];
    if (macKey(frame, 6) !== this.#contact.key) {
      if (command !== AoeCommand.config || !this.#isSilent()) return this.#malformed();
      return this.#lost('the target answers from another address');
    }
    if (command === AoeCommand.config) this.#heardAt = performance.now();
    else if (command === AoeCommand.ata) this.#answer(frame, flags);
  }

  /** The target has owed an answer for so long that it was asked whether it is there. */
  #isSilent(): boolean {
    return this.#underWay.size > 0 && performance.now() - this.#heardAt >= askMs;
  }

  #answer(frame: Uint8Array, flags: number): void {
    const command = this.#underWay.get(tagOf(frame));
    if (!command) {
      this.counters.late++;
      return;
    }
    const answer = readAnswer(frame, flags, command, this.#contact.grant);
    if (answer === 'malformed') return this.#malformed();
    if (answer === 'unknown session') {
      this.#fence = true;
      return this.#lost('the target does not know this session any more');
    }
    this.#answered(command);
    if (answer) return this.#finish(command, answer);
    if (command.kind !== 'read') {
      this.#durability.done(command);
    } else {
      try {
        command.buffers!.copyFrom(dataOf(frame, command), command.at);
      } catch (cause) {
        return this.#finish(command, new BlockError('io', 'the memory of the read is gone', { cause }));
      }
    }
    this.#finish(command);
  }

  #answered(command: Command): void {
    const now = performance.now();
    this.#heardAt = now;
    if (command.copies === 1 && command.kind !== 'flush') this.#roundTrip.sample(now - command.sentAt);
    this.#window.answered();
    if (command.kind !== 'flush') this.#overtakes(command, now);
  }

  /** An answer came before those to older messages: when enough have, an older one is taken for lost. */
  #overtakes({ order }: Command, now: number): void {
    for (const older of this.#underWay.values()) {
      if (older.order >= order) {
        if (older.copies === 1) break;
        continue;
      }
      if (older.kind === 'flush' || ++older.overtaken < reorder || older.copies > 1) continue;
      if (now - older.sentAt < this.#roundTrip.late) continue;
      this.#window.lost(older.sentAt);
      this.#transmit(older);
    }
  }

  #finish(command: Command, error?: BlockError): void {
    this.#underWay.delete(command.tag);
    if (command.kind === 'write' && command.copies > 1 && !this.hasSession) this.#haunt(command);
    command.request.finish(error);
    this.#pumpLater();
  }

  /** Copies of a write that is over can still be on their way. */
  #haunt(command: Command): void {
    this.#quarantine.add(command.lba, command.lba + command.count, command.sentAt);
  }

  /** A command that was sent is given up without an answer. */
  #dropped(command: Command): void {
    if (command.firstSentAt === undefined || command.kind === 'read') return;
    if (this.hasSession) this.#fence = true;
    else this.#haunt(command);
  }

  #malformed(): void {
    this.counters.malformed++;
  }

  // --- losing and finding the target ---

  #establish(signal: AbortSignal): Promise<Contact> {
    const { shelf, slot } = this.#options;
    let supersedes = 0;
    if (this.#fence) {
      this.#nonce = newNonce();
      supersedes = this.#contact.grant?.generation ?? 0;
    }
    return makeContact(this.#messenger, {
      shelf,
      slot,
      mac: this.#port.mac,
      opening: { nonce: this.#nonce, supersedes, firstTag: (this.#lastTag + 1) >>> 0 },
      signal,
      queryMs,
    });
  }

  /** The target is there. What was under way is sent again: under new tags where the session is a new one. */
  #adopt(contact: Contact): void {
    const before = this.#contact as Contact | undefined;
    this.#contact = contact;
    this.#fence = false;
    if (contact.grant) {
      if (before?.grant?.generation !== contact.grant.generation) {
        for (const command of this.#waiting) {
          command.tag = -1;
          command.copies = 0;
        }
      }
      this.#checkDurability(contact.grant.life);
    }
    this.#window.limit(Math.min(contact.bufferCount, maxWindow));
    clearTimeout(this.#deadline);
    this.#failure = undefined;
    this.#enter('connected', this.#name);
    this.#pump();
  }

  #checkDurability(life: Uint8Array): void {
    const lost = this.#durability.opened(life);
    if (!lost) return;
    this.#say('error', 'unflushed', lost.message);
    const flushes = this.#waiting.filter(({ kind }) => kind === 'flush');
    if (flushes.length === 0) return;
    this.#waiting = this.#waiting.filter(({ kind }) => kind !== 'flush');
    for (const flush of flushes) flush.request.finish(lost);
    this.#durability.told();
  }

  #lost(reason: string): void {
    if (this.#state !== 'connected') return;
    this.#waiting.unshift(...this.#underWay.values());
    this.#underWay.clear();
    this.#window.collapse();
    this.#enter('reconnecting', reason);
    this.#say('warn', 'lost', `${reason}; ${this.#waiting.length} commands wait`);
    this.#waiting = this.#waiting.filter((command) => !this.#dropIfAborted(command));
    this.#setDeadline();
    void this.#find();
  }

  async #find(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const fenced = this.#fence;
        const contact = await this.#establish(this.#stop.signal);
        // Something was given up in the meantime: its copies are of the session that was asked for.
        if (this.#fence && !fenced) continue;
        const breach = breachOf(this.#contact, contact, this.#sectors);
        if (breach === undefined) {
          this.#say('info', 'found', `there again, ${this.#waiting.length} commands waited`);
          return this.#adopt(contact);
        }
        this.#failAll(new BlockError('io', `${this.#name}: the target changed: ${breach}`));
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        this.#say('debug', 'attempt', messageOf(error));
      }
      await sleep(queryMs, this.#stop.signal).catch(() => undefined);
    }
  }

  #setDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => {
      if (this.#state !== 'reconnecting') return;
      const { reconnectSeconds } = this.#options;
      const text = `${this.#name} is not reachable for ${reconnectSeconds} seconds: nobody answers`;
      this.#failAll(new BlockError('unreachable', text));
    }, this.#patience);
  }

  #failAll(error: BlockError): void {
    clearTimeout(this.#deadline);
    if (this.#failure?.message !== error.message) this.#say('error', 'failed', error.message);
    this.#failure = error;
    this.#giveUp(error);
    this.#enter('lost', error.message);
  }

  /** Everything that waits or is under way fails. */
  #giveUp(error: BlockError): void {
    const all = [...this.#underWay.values(), ...this.#waiting];
    this.#underWay.clear();
    this.#waiting = [];
    for (const command of all) {
      this.#dropped(command);
      command.request.finish(error);
    }
  }

  /** The caller gives a request up. What the target may be working on waits for its answer. */
  #abandon(request: Request): void {
    this.#waiting = this.#waiting.filter((command) => command.request !== request || !this.#dropIfAborted(command));
    if (this.#fence) this.#lost('a command was given up');
  }

  /** Ends a command that is not under way and whose caller has given it up. */
  #dropIfAborted(command: Command): boolean {
    if (!command.request.signal?.aborted) return false;
    this.#dropped(command);
    command.request.finish(new BlockError('aborted', 'given up'));
    return true;
  }

  #enter(state: AoeState, detail: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onState(state, detail);
  }

  #say(level: LogLevel, key: string, message: string): void {
    this.#log.log(level, key, message.startsWith(this.#name) ? message : `${this.#name}: ${message}`);
  }
}

function newNonce(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(nonceSize));
}
