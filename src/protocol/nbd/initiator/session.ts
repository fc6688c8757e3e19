/**
 * A session with an NBD export, alone or one of a group (group.ts): one connection at a time, and what happens between one
 * and the next. Requests that lost their connection are kept and run again on a new one, within the time that the user set;
 * then they fail, and so do later ones until the server is back.
 *
 * Every connection negotiates the same session identity (spec.ts, sessionContext), by which a Farbus server finishes or
 * drops what an earlier one left before it lets a new one in. docs/nbd.md says what holds with servers that do not know it.
 */
import type { Buffers } from '../../../base/buffers.js';
import { FarbusError, messageOf } from '../../../base/errors.js';
import { ThrottledLogger, type Logger, type LogLevel } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { BlockInfo } from '../../../block/device.js';
import { BlockError } from '../../../block/errors.js';
import { compareIdentity } from '../../../block/identity.js';
import type { Fate, Life, Mark } from '../../../block/life.js';
import type { ContentWitness } from '../../../block/witness.js';
import type { Dialer, Secure } from '../../../network/stream.js';
import { Command } from '../spec.js';
import { connect, type Connection } from './connection.js';
import { Durability } from './durability.js';
import { breachOf, factsOf, type ExportFacts } from './facts.js';
import { PayloadPool } from './payload-pool.js';
import { NbdRequest, type Ask } from './request.js';
import { RetryPause } from './retry-pause.js';
import { fenceSession, sessionMark } from './predecessor.js';
import { newSessionId } from './session-id.js';
import { traceSent } from './trace.js';

/**
 * Where a session is: `connected`; `reconnecting`, while requests wait; `lost`, the time for that is over and requests
 * fail at once, though it goes on trying; `closed`.
 */
export type NbdState = 'connected' | 'reconnecting' | 'lost' | 'closed';

export interface SessionOptions {
  readonly exportName: string;
  readonly readOnly: boolean;
  readonly reconnectSeconds: number;
  readonly connectSeconds: number;
  readonly stallSeconds: number;
  readonly secure: Secure | undefined;
  /** Take a disk that cannot be recognised after a reconnect for the same one. */
  readonly assumeSame: boolean;
  /** Keeps the session's mark before anything is written. */
  readonly life: Life | undefined;
  readonly log: Logger;
  readonly steps: Steps;
  readonly onState: (state: NbdState, detail: string) => void;
  /** Losses and returns are reported by the group that the session belongs to. */
  readonly grouped?: boolean;
}

/** Why a connection is left when the drive's medium has changed, and how long the next may take at least, in ms. */
const mediumLeft = 'the medium is another or gone';
const renewMs = 10_000;
/** How long closing waits for requests under way, whether there is a connection or not, in ms. */
const closeMs = 4000;
/** A session's connections have numbers from a random one below this on: those of others on one server are seldom the same. */
const maxFirstId = 2 ** 20;

export class Session {
  #facts: ExportFacts;
  readonly #dialer: Dialer;
  readonly #options: SessionOptions;
  readonly #id: string;
  readonly #log: ThrottledLogger;
  readonly #pool: PayloadPool;
  readonly #steps: Steps;
  readonly #durability: Durability;
  readonly #stop = new AbortController();
  /**
   * There are other sessions with this export, over which callers go on: a request that may still take effect is not over
   * when it is given up.
   */
  several = false;
  /** Recognises the disk after a reconnect; set for servers that tell no marks of it. */
  witness: ContentWitness | undefined;
  /** Called when the export's medium is another or gone (true), and on each new connection on which it is the same (false). */
  onMedium: (changed: boolean) => void = () => undefined;
  #connection: Connection | undefined;
  /** The number of the latest connection. */
  #lastId: number;
  #waiting: NbdRequest[] = [];
  #state: NbdState = 'connected';
  /** While requests fail at once: why. */
  #failure: BlockError | undefined;
  /** How long requests wait for a new connection, in ms; and the end of that. */
  #patience: number;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  /** The end of waiting for requests under way, once the session is about to be closed. */
  #closing: ReturnType<typeof setTimeout> | undefined;
  /** The last reason for which there is no connection. */
  #reason = '';
  /** The pause before the next attempt to connect again. */
  #pause: RetryPause | undefined;

  private constructor(dialer: Dialer, options: SessionOptions, id: string, connection: Connection, first?: Session) {
    this.#dialer = dialer;
    this.#options = options;
    this.#id = id;
    this.#patience = options.reconnectSeconds * 1000;
    this.#pool = connection.pool;
    this.#steps = options.steps;
    this.#lastId = connection.id;
    this.#log = new ThrottledLogger(options.log);
    const facts = factsOf(connection.agreement, options.exportName, options.readOnly);
    const breach = first && breachOf(first.#facts, facts);
    if (breach !== undefined)
      throw new FarbusError(`${dialer.address}: another export on another connection: ${breach}`);
    this.#facts = first ? first.#facts : facts;
    // What one connection's writes have, the others' flushes make durable ([NBD] NBD_FLAG_CAN_MULTI_CONN).
    this.#durability = first ? first.#durability : new Durability(connection.agreement.state);
    if (first) this.#durability.reconnected(connection.agreement.state);
    this.#adopt(connection);
  }

  /**
   * Connects. Rejects with a FarbusError.
   * @param first Another session of the same group, whose facts this one must keep.
   */
  static async open(dialer: Dialer, options: SessionOptions, first?: Session): Promise<Session> {
    const id = newSessionId();
    const pool = first ? first.#pool : new PayloadPool();
    const connection = await connect(dialer, {
      wish: { exportName: options.exportName, session: id },
      id: firstConnectionId(),
      connectSeconds: options.connectSeconds,
      stallSeconds: options.stallSeconds,
      pool,
      secure: options.secure,
      signal: new AbortController().signal,
    });
    try {
      await options.life?.note(sessionMark(id, connection.agreement.state !== undefined));
      return new Session(dialer, options, id, connection, first);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  get info(): BlockInfo {
    return this.#facts.info;
  }

  /** Requests that are under way or wait. */
  get load(): number {
    return this.#waiting.length + (this.#connection?.load ?? 0);
  }

  /** Why requests fail at once, while they do. */
  get failure(): BlockError | undefined {
    return this.#failure;
  }

  /** Requests without a payload may be longer than 32 bits say. */
  get wide(): boolean {
    return this.#facts.wide;
  }

  /** The server tells whether zeroing is faster than writing. */
  get fastZero(): boolean {
    return this.#facts.fastZero;
  }

  /** The medium of an export that has a removable one; '' for none. */
  get medium(): string | undefined {
    return this.#facts.medium;
  }

  /** Nothing that was sent to the server can still change the export, as far as that can be known. */
  get quiet(): boolean {
    return this.#connection?.load === 0;
  }

  /** Fences the session of an earlier process with that mark. Rejects: it is to be tried again. */
  async fence(mark: Mark, signal: AbortSignal): Promise<Fate> {
    const connection = this.#connection;
    // A server that knows no sessions may take a single connection only.
    if (connection && connection.agreement.state === undefined) return 'unknown';
    const { exportName, connectSeconds, stallSeconds, secure } = this.#options;
    const options = { id: this.#nextId(), connectSeconds, stallSeconds, pool: this.#pool, secure, signal };
    return fenceSession(this.#dialer, mark, exportName, options);
  }

  /** Runs a request. Its promise settles as RequestOptions.signal and the reconnect time have it. */
  run(ask: Ask): NbdRequest {
    const request = new NbdRequest(ask, (aborted) => this.#abandon(aborted));
    if (this.#state === 'closed') {
      request.fail(new BlockError('closed', 'the device is closed'));
    } else if (this.#isStale(request)) {
      request.fail(otherMedium());
    } else if (this.#failure) {
      request.fail(this.#failure);
      // Somebody wants it: try now rather than at the end of the pause.
      this.#pause?.hurry();
    } else if (this.#waiting.length === 0 && this.#connection?.hasRoom(request)) {
      this.#send(request);
    } else {
      if (!this.#connection) request.lostAt = performance.now();
      this.#waiting.push(request);
    }
    return request;
  }

  /** The session is about to be closed: requests under way fail if they are not answered soon. */
  hurry(): void {
    this.#closing ??= setTimeout(() => this.#tooLate(), closeMs);
    this.#patience = Math.min(this.#patience, closeMs);
    if (this.#state !== 'reconnecting') return;
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#giveUp(), this.#patience);
  }

  #tooLate(): void {
    this.#patience = 0;
    this.#connection?.giveUp('the device is being closed');
    this.#giveUp();
  }

  /** Says goodbye and closes; nothing is flushed. Requests that still wait fail with `closed`. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#enter('closed', '');
    clearTimeout(this.#deadline);
    clearTimeout(this.#closing);
    this.#stop.abort();
    this.#pause?.end();
    for (const request of this.#waiting.splice(0)) request.fail(new BlockError('closed', 'the device is closed'));
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.disconnect();
  }

  #send(request: NbdRequest): void {
    if (request.type === Command.flush) {
      const lost = this.#durability.flushing(request);
      if (lost) return request.fail(lost);
    }
    this.#connection!.send(request);
    if (this.#steps.on) traceSent(this.#steps, request, this.#connection!.id);
  }

  #pump(): void {
    const waiting = this.#waiting;
    let sent = 0;
    while (sent < waiting.length && this.#connection?.hasRoom(waiting[sent]!)) this.#send(waiting[sent++]!);
    if (sent > 0) waiting.splice(0, sent);
  }

  #answered(request: NbdRequest, connection: Connection): void {
    if (request.error) {
      request.fail(request.error);
      if (request.error.kind === 'no-medium') this.#mediumGone(request, connection);
      return;
    }
    this.#durability.done(request, connection.agreement.state);
    request.succeed();
  }

  /** Whether a request means a medium that is not in the drive any more. */
  #isStale({ medium }: NbdRequest): boolean {
    return medium !== undefined && medium !== this.#facts.medium;
  }

  /**
   * The server says that the connection's medium is not there: the next one, or that there is none, is learnt by a new
   * connection. On one that has found an empty drive this is no news but from a check.
   */
  #mediumGone({ type }: NbdRequest, connection: Connection): void {
    const { medium } = connection.agreement;
    if (medium === undefined || connection !== this.#connection) return;
    if (medium === '' && type !== Command.media) return;
    const { info } = this.#facts;
    this.#facts = { ...this.#facts, medium: '', info: { ...info, size: 0 } };
    connection.leave(mediumLeft);
    if (medium !== '') this.onMedium(true);
  }

  /** The caller gives a request up. One that the server may be working on waits for its answer. */
  #abandon(request: NbdRequest): void {
    const at = this.#waiting.indexOf(request);
    // One that may still take effect is over when a later connection has been let in, where another session's requests
    // could otherwise come before it.
    if (at < 0 || (request.ghost && this.several)) return;
    // One that lost its connection can be dropped as well: whatever is sent from now on goes over a connection that
    // the server lets in only when the older ones are fenced.
    this.#waiting.splice(at, 1);
    request.fail(givenUp());
  }

  #adopt(connection: Connection): void {
    this.#connection = connection;
    clearTimeout(this.#deadline);
    this.#failure = undefined;
    this.#layGhosts();
    connection.start({
      answered: (request) => this.#answered(request, connection),
      room: () => {
        if (this.#waiting.length > 0) this.#pump();
      },
      lost: (reason, unfinished) => this.#lost(connection, reason, unfinished),
    });
    this.#enter('connected', this.#dialer.address);
    this.#pump();
  }

  /** The server has let a new connection in: what was sent on older ones has no effect any more. */
  #layGhosts(): void {
    this.#waiting = this.#waiting.filter((request) => {
      request.ghost = false;
      if (request.aborted) request.fail(givenUp());
      return !request.aborted;
    });
  }

  #lost(connection: Connection, reason: string, unfinished: NbdRequest[]): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    // To find out what is in the drive now, the server is dialled in any case.
    const patience = reason === mediumLeft ? Math.max(this.#patience, renewMs) : this.#patience;
    const now = performance.now();
    const unreachable = this.#unreachable(reason);
    const again: NbdRequest[] = [];
    for (const request of unfinished) {
      request.lostAt ??= now;
      request.ghost = true;
      if (request.aborted && !this.several) request.fail(givenUp());
      // A request that loses one connection after the other does not wait for ever either.
      else if (now - request.lostAt >= patience) request.fail(unreachable);
      else again.push(request);
    }
    this.#waiting = [...again, ...this.#waiting];
    for (const request of this.#waiting) request.lostAt ??= now;
    if (patience === 0) {
      connection.destroy();
      return this.#failAll(unreachable);
    }
    if (reason === mediumLeft) this.#say('info', 'medium', reason);
    else if (!this.#options.grouped)
      this.#say('warn', 'lost', `connection lost: ${reason}; reconnecting, ${this.#waiting.length} requests wait`);
    this.#enter('reconnecting', reason);
    this.#reason = reason;
    this.#deadline = setTimeout(() => this.#giveUp(), patience);
    void this.#reconnect(connection);
  }

  async #reconnect(old: Connection): Promise<void> {
    const pause = (this.#pause = new RetryPause());
    while (this.#state !== 'closed') {
      await pause.wait();
      // Before a new connection is made, the old one is surely closed on this side.
      old.destroy();
      if (this.#stop.signal.aborted) return;
      let connection: Connection | undefined;
      try {
        connection = await this.#connect();
        const breach = this.#breach(connection) ?? (await this.#otherDisk(connection));
        if (breach === undefined) return this.#resume(connection);
        void connection.disconnect();
        this.#failAll(new BlockError('io', `${this.#dialer.address}: the export changed: ${breach}`));
      } catch (error) {
        connection?.destroy();
        this.#reason = messageOf(error);
        this.#say('debug', 'attempt', this.#reason);
      }
    }
  }

  /** Why the new connection's disk is not taken for the one that requests wait for. Rejects if the connection fails. */
  async #otherDisk(connection: Connection): Promise<string | undefined> {
    const { info, medium } = this.#facts;
    if (this.#options.assumeSame || medium !== undefined) return undefined;
    const [then, now] = [info.marks ?? {}, connection.agreement.marks ?? {}];
    const byMarks = compareIdentity({ size: info.size, marks: then }, { size: info.size, marks: now }).verdict;
    if (byMarks === 'same') return undefined;
    // Without a witness the first server told a decisive mark, and this one tells none.
    const verdict = await this.witness?.check((offset, into) => readAlone(connection, offset, into));
    if (verdict === 'same') return undefined;
    if (verdict === 'other') return 'another disk has its name: its content differs';
    return 'nothing tells whether it is the same disk: open it again, or use --assume-same';
  }

  /** In what a new connection's export is not the one that requests wait for. */
  #breach({ agreement }: Connection): string | undefined {
    try {
      const readOnly = this.#options.readOnly || (this.info.readOnly && agreement.medium === this.#facts.medium);
      const facts = factsOf(agreement, this.#options.exportName, readOnly);
      const breach = breachOf(this.#facts, facts);
      // Where there are others, they have connections of the old size; another medium has its own.
      if (breach === undefined && !this.several && agreement.medium === this.#facts.medium) this.#grow(facts.info.size);
      return breach;
    } catch (error) {
      return messageOf(error);
    }
  }

  #grow(found: number): void {
    const { info } = this.#facts;
    // The server's blocks may be smaller by now than those that this device keeps to.
    const size = found - (found % info.blockSize);
    if (size <= info.size) return;
    this.#say('info', 'grown', `the export has ${size} bytes now and had ${info.size}`);
    this.#facts = { ...this.#facts, info: { ...info, size } };
  }

  #connect(): Promise<Connection> {
    const { exportName, connectSeconds, stallSeconds, secure } = this.#options;
    return connect(this.#dialer, {
      wish: { exportName, session: this.#id },
      id: this.#nextId(),
      connectSeconds,
      stallSeconds,
      pool: this.#pool,
      secure,
      signal: this.#stop.signal,
    });
  }

  #nextId(): number {
    return (this.#lastId = (this.#lastId % 0xffff_ffff) + 1);
  }

  #resume(connection: Connection): void {
    if (this.#state === 'closed') return void connection.disconnect();
    // Another session may have found out before.
    const lost = this.#durability.reconnected(connection.agreement.state) ?? this.#durability.lost;
    if (lost) {
      this.#say('error', 'unflushed', `${lost.message}`);
      const flushes = this.#waiting.filter((request) => request.type === Command.flush);
      if (flushes.length > 0) {
        this.#waiting = this.#waiting.filter((request) => request.type !== Command.flush);
        for (const flush of flushes) flush.fail(lost);
        this.#durability.told();
      }
    }
    if (!this.#options.grouped)
      this.#say('info', 'connected', `connected again, ${this.#waiting.length} requests waited`);
    const changed = this.#changeMedium(connection);
    this.#adopt(connection);
    this.onMedium(changed);
  }

  /** The new connection's medium counts from now on; what waits for another one is over. @returns whether it is another. */
  #changeMedium({ agreement }: Connection): boolean {
    if (agreement.medium === undefined) return false;
    const changed = agreement.medium !== this.#facts.medium;
    this.#facts = factsOf(agreement, this.#options.exportName, this.#options.readOnly);
    const waiting = this.#waiting;
    this.#waiting = waiting.filter((request) => !this.#isStale(request));
    for (const request of waiting) if (this.#isStale(request)) request.fail(otherMedium());
    return changed;
  }

  /** The time to reconnect is over. It goes on trying, but nobody waits for that any more. */
  #giveUp(): void {
    if (this.#connection || this.#state === 'closed') return;
    this.#failAll(this.#unreachable(this.#reason));
  }

  #failAll(error: BlockError): void {
    clearTimeout(this.#deadline);
    if (this.#failure?.message !== error.message && !this.#options.grouped) this.#say('error', 'failed', error.message);
    this.#failure = error;
    for (const request of this.#waiting.splice(0)) request.fail(error);
    this.#enter('lost', error.message);
  }

  #unreachable(reason: string): BlockError {
    const { reconnectSeconds } = this.#options;
    const waited = reconnectSeconds > 0 ? ` for ${reconnectSeconds} seconds` : '';
    return new BlockError('unreachable', `${this.#dialer.address} is not reachable${waited}: ${reason}`);
  }

  #enter(state: NbdState, detail: string): void {
    if (this.#state === state && state !== 'connected') return;
    this.#state = state;
    this.#options.onState(state, detail);
  }

  #say(level: LogLevel, key: string, message: string): void {
    this.#log.log(
      level,
      key,
      message.startsWith(this.#dialer.address) ? message : `${this.#dialer.address}: ${message}`,
    );
  }
}

/** The number of a session's first connection; later ones follow. */
export function firstConnectionId(): number {
  return 1 + (crypto.getRandomValues(new Uint32Array(1))[0]! % maxFirstId);
}

/** Reads over a connection that carries nothing else yet. */
function readAlone(connection: Connection, offset: number, into: Buffers): Promise<void> {
  connection.start({
    answered: (request) => (request.error ? request.fail(request.error) : request.succeed()),
    room: () => undefined,
    lost: (reason, unfinished) => unfinished.forEach((request) => request.fail(new BlockError('unreachable', reason))),
  });
  const request = new NbdRequest({ type: Command.read, offset, length: into.length, buffers: into }, () => undefined);
  if (connection.hasRoom(request)) connection.send(request);
  else request.fail(new BlockError('unreachable', 'the connection is lost'));
  return request.done;
}

function otherMedium(): BlockError {
  return new BlockError('no-medium', 'another medium is in the drive, or none');
}

function givenUp(): BlockError {
  return new BlockError('aborted', 'given up');
}
