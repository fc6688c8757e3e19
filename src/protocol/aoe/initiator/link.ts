/**
 * The initiator's connection to one target while the device is open: finds the target, notices its
 * loss, and finds it again at any MAC address, provided it has the same disk. [AoE] 2, 3.2.
 *
 * Not here: commands and answers (exchange.ts), the first questions (contact.ts).
 */
import { Deadline } from '../../../base/deadline.js';
import { FarbusError, messageOf } from '../../../base/errors.js';
import { getU16 } from '../../../base/big-endian.js';
import type { RequestOptions } from '../../../block/device.js';
import { BlockError, closedError } from '../../../block/errors.js';
import type { Fate, FenceKey } from '../../../block/life.js';
import type { ContentWitness } from '../../../block/witness.js';
import { broadcastMac, macKey } from '../../../network/ethernet/mac.js';
import type { Port, Segment } from '../../../network/ethernet/segment.js';
import { Reconnection } from '../../remote/reconnection.js';
import type { DiskFacts } from '../identify.js';
import { nonceSize } from '../session.js';
import { AOE_VERSION, AoeCommand, Flag, Header, sectorsOf } from '../spec.js';
import { configQuery, flagsOf, isAoe, versionOf } from '../wire.js';
import { SentCommand, Request, type CommandParts } from './command.js';
import { breachOf, makeContact, type Contact } from './contact.js';
import { Exchange } from './exchange.js';
import type { LinkCounters, LinkOptions } from './link-options.js';
import { Messenger } from './messenger.js';
import { fencePlace, placeKey } from './predecessor.js';
import { otherDisk } from './same-disk.js';

/** Interval between queries for a lost target, and between attempts, in ms. */
const queryMs = 250;

export class Link {
  readonly counters: LinkCounters = { sent: 0, repeated: 0, late: 0, malformed: 0 };
  readonly name: string;
  readonly #options: LinkOptions;
  readonly #segment: Segment;
  readonly #port: Port;
  readonly #exchange: Exchange;
  readonly #messenger: Messenger;
  readonly #reconnection: Reconnection;
  readonly #segmentSectors: number;
  #contact!: Contact;
  /**
   * Maximum sectors of one message, from the first contact. A target found later must take as many.
   */
  #sectors = 1;
  #nonce = newNonce();
  /** Fence key of the latest session. */
  #fenceKey: FenceKey | undefined;
  #questions = 0;

  private constructor(segment: Segment, options: LinkOptions) {
    const { shelf, slot, mac } = options;
    this.#options = options;
    this.#segment = segment;
    this.name = `aoe:${shelf}.${slot}@${segment.name}`;
    this.#reconnection = new Reconnection({
      ...options,
      address: this.name,
      failWaiting: (error) => this.#exchange.giveUp(error),
      cutOff: () => this.#exchange.giveUp(closedError()),
    });
    this.#segmentSectors = sectorsOf(segment.mtu);
    const onFrame = (frame: Uint8Array): void => this.#receive(frame);
    const port = (this.#port = segment.attach(mac ? { mac, onFrame } : { onFrame }));
    this.#exchange = new Exchange({
      ...options,
      port,
      counters: this.counters,
      ask: () => void port.send(configQuery(broadcastMac, port.mac, shelf, slot, 0)),
      lost: (reason) => this.#lost(reason),
    });
    // Tags of questions are half the tag space away from the command sequence, so they never
    // collide.
    const questionTag = (): number => (this.#exchange.lastTag + 2 ** 31 + (this.#questions++ % 2 ** 20)) >>> 0;
    this.#messenger = new Messenger(port, questionTag);
  }

  /** Finds the target. Rejects with a FarbusError. */
  static async open(segment: Segment, options: LinkOptions): Promise<Link> {
    const link = new Link(segment, options);
    const { connectSeconds } = options;
    const limit = new Deadline(connectSeconds * 1000, options.signal);
    try {
      limit.signal.throwIfAborted();
      if (link.#segmentSectors < 1) throw new FarbusError('frames of this segment carry no sector: raise its MTU');
      const contact = await link.#establish(limit.signal);
      link.#sectors = Math.min(contact.sectors, link.#segmentSectors);
      link.#adopt(contact);
      return link;
    } catch (error) {
      link.#port.close();
      const late = `no answer within ${connectSeconds} seconds: is the target on this segment and up?`;
      throw new FarbusError(`${link.name}: ${limit.passed ? late : messageOf(error)}`, { cause: error });
    } finally {
      limit.end();
    }
  }

  get disk(): DiskFacts {
    return this.#contact.disk;
  }

  /** Maximum number of sectors of one command. */
  get sectors(): number {
    return this.#sectors;
  }

  /** The target refuses writes. */
  get readOnly(): boolean {
    return this.#contact.grant?.readOnly ?? false;
  }

  /** True if the target has Farbus sessions. */
  get hasSession(): boolean {
    return this.#contact.grant !== undefined;
  }

  get witness(): ContentWitness | undefined {
    return this.#options.witness;
  }

  /** {@link Reconnection.away} */
  get away(): number | undefined {
    return this.#reconnection.away;
  }

  /** True if no message sent to the target can change its disk any more. */
  get quiet(): boolean {
    return this.#exchange.quiet;
  }

  /**
   * Fences the writes of an earlier process with this key. Rejects if the caller must try again.
   */
  fence(key: FenceKey, signal: AbortSignal): Promise<Fate> {
    const { shelf, slot, frameLifetimeMs } = this.#options;
    const sessions = this.hasSession;
    const connected = (): boolean => this.#reconnection.state === 'connected';
    return fencePlace(this.#segment, key, { shelf, slot, frameLifetimeMs, sessions, connected, signal });
  }

  /**
   * Runs the commands of one request. Settles when all of them have ended; rejects with the first
   * error.
   */
  run(parts: readonly CommandParts[], options: RequestOptions): Promise<void> {
    const request = new Request(parts.length, options, (aborted) => this.#exchange.abandon(aborted));
    const { state, failure } = this.#reconnection;
    const error = state === 'closed' ? closedError() : failure;
    for (const part of parts) {
      if (error) request.finish(error);
      else this.#exchange.push(new SentCommand(request, part));
    }
    return request.done;
  }

  /**
   * The device is about to close: requests in flight fail if they are not answered within
   * `closeMs`.
   */
  hurry(): void {
    this.#reconnection.hurry();
  }

  close(): void {
    if (!this.#reconnection.close()) return;
    this.#exchange.close();
    this.#exchange.giveUp(closedError());
    this.#port.close();
  }

  #receive(frame: Uint8Array): void {
    if (!isAoe(frame)) return;
    const flags = flagsOf(frame);
    if (!(flags & Flag.response)) return;
    const { shelf, slot } = this.#options;
    if (getU16(frame, Header.shelf) !== shelf || frame[Header.slot] !== slot) return;
    if (versionOf(frame) !== AOE_VERSION) return this.#malformed();
    if (this.#messenger.take(frame)) return;
    if (this.#reconnection.state !== 'connected') return;
    const command = frame[Header.command];
    if (macKey(frame, 6) !== this.#contact.key) {
      if (command !== AoeCommand.config || !this.#exchange.isSilent) return this.#malformed();
      return this.#lost('the target answers from another address');
    }
    if (command === AoeCommand.config) this.#exchange.heard();
    else if (command === AoeCommand.ata && !this.#exchange.take(frame, flags)) this.#malformed();
  }

  #malformed(): void {
    this.counters.malformed++;
  }

  async #establish(signal: AbortSignal): Promise<Contact> {
    const { shelf, slot, life } = this.#options;
    const before = this.#contact as Contact | undefined;
    let supersedes = 0;
    if (this.#exchange.needsFence) {
      this.#nonce = newNonce();
      supersedes = this.#contact.grant?.generation ?? 0;
    }
    // Earlier sessions are known by their keys, so the opening names the one to end. It must not
    // end those of other living processes with this address.
    const named = before !== undefined || life?.kept === true;
    const contact = await makeContact(this.#messenger, {
      shelf,
      slot,
      mac: this.#port.mac,
      opening: { nonce: this.#nonce, supersedes, firstTag: (this.#exchange.lastTag + 1) >>> 0, named, sealed: true },
      // The answer may take long: the target waits for the commands of the superseded session.
      sessions: before?.grant !== undefined,
      signal,
      queryMs,
    });
    await this.#note(contact, supersedes);
    return contact;
  }

  /** Stores the fence key of a session before any message of it is sent. */
  async #note({ grant }: Contact, supersedes: number): Promise<void> {
    const { life } = this.#options;
    const key = placeKey(this.#port.mac, grant);
    if (!life || key['generation'] === this.#fenceKey?.['generation'] || this.#reconnection.state === 'closed') return;
    if (this.#fenceKey && this.#fenceKey['generation'] === supersedes) life.forget(this.#fenceKey);
    this.#fenceKey = key;
    await life.note(key);
  }

  /** Uses a new contact: the target is connected. */
  #adopt(contact: Contact): void {
    this.#contact = contact;
    const unflushed = this.#exchange.start(contact);
    if (unflushed) this.#reconnection.say('error', 'unflushed', unflushed.message);
    this.#reconnection.calm();
    this.#reconnection.connected();
    this.#exchange.pump();
  }

  #lost(reason: string): void {
    if (this.#reconnection.state !== 'connected') return;
    this.#exchange.stop();
    this.#reconnection.lost(reason);
    this.#reconnection.reason = 'no answer';
    this.#reconnection.say('warn', 'lost', `${reason}; ${this.#exchange.waiting} commands wait`);
    const pauses = { first: queryMs, last: queryMs };
    void this.#reconnection.retry(() => this.#find(), { key: 'attempt', atOnce: true, pauses });
  }

  /** One attempt to find the target again. */
  async #find(): Promise<boolean> {
    const { stop } = this.#reconnection;
    let contact: Contact;
    let fenced: boolean;
    do {
      fenced = this.#exchange.needsFence;
      contact = await this.#establish(stop);
      // If a command was given up during the attempt, the session just opened does not supersede
      // the one that its copies belong to: open another.
    } while (this.#exchange.needsFence && !fenced);
    const breach = breachOf(this.#contact, contact, this.#sectors) ?? (await this.#otherDisk(contact));
    stop.throwIfAborted();
    if (breach !== undefined) {
      this.#reconnection.fail(new BlockError('io', `${this.name}: the target changed: ${breach}`));
      return false;
    }
    this.#reconnection.say('info', 'found', `there again, ${this.#exchange.waiting} commands waited`);
    this.#adopt(contact);
    return true;
  }

  #otherDisk(contact: Contact): Promise<string | undefined> | undefined {
    const { witness, shelf, slot } = this.#options;
    const place = { shelf, slot, mac: this.#port.mac, sectors: this.#sectors };
    const { worldWideName } = this.disk;
    return witness && otherDisk(witness, this.#messenger, contact, place, this.#reconnection.stop, worldWideName);
  }
}

function newNonce(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(nonceSize));
}
