/**
 * A session with an NBD export, alone or in a group (group.ts). It has one connection at a time,
 * and handles the time between one and the next: unanswered requests of a lost connection are sent
 * again on a new one, within the time that the user set. After that they fail, and later requests
 * fail too until the server returns.
 *
 * All connections negotiate the same session id (spec.ts, sessionContext). A Farbus server finishes
 * or drops the requests of earlier connections before it admits a new one. docs/nbd.md says what
 * holds for other servers.
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
import { Durability } from '../../remote/durability.js';
import { breachOf, factsOf, type ExportFacts } from './facts.js';
import { PayloadPool } from './payload-pool.js';
import { NbdRequest, type Ask } from './request.js';
import { RetryPause } from '../../remote/retry-pause.js';
import { fenceSession, sessionMark } from './predecessor.js';
import { newSessionId } from './session-id.js';
import { traceSent } from './trace.js';

/**
 * The state of a session: `connected`; `reconnecting`: requests wait; `lost`: the waiting time is
 * over, requests fail immediately, and attempts to connect continue; `closed`.
 */
export type NbdState = 'connected' | 'reconnecting' | 'lost' | 'closed';

export interface SessionOptions {
  readonly exportName: string;
  readonly readOnly: boolean;
  readonly reconnectSeconds: number;
  readonly connectSeconds: number;
  readonly stallSeconds: number;
  readonly secure: Secure | undefined;
  /** If a disk cannot be recognised after a reconnect, assume that it is the same one. */
  readonly assumeSame: boolean;
  /** Stores the session's mark before anything is written. */
  readonly life: Life | undefined;
  readonly log: Logger;
  readonly steps: Steps;
  readonly onState: (state: NbdState, detail: string) => void;
  /** The group that the session belongs to reports losses and returns. */
  readonly grouped?: boolean;
}

/**
 * The reason for leaving a connection after a change of the medium; and the least time that the
 * next connection gets, in ms.
 */
const mediumLeft = 'the medium is another or gone';
const renewMs = 10_000;
/** How long closing waits for requests in flight, with or without a connection, in ms. */
const closeMs = 4000;
/**
 * The number of a session's first connection is a random number up to this one, so that connections
 * of different clients to one server seldom have the same number.
 */
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
   * There are other sessions with this export, and callers continue over them. So an aborted
   * request that may still take effect must not settle yet.
   */
  several = false;
  /**
   * Recognises the disk after a reconnect by its content. Set if the server reports no decisive
   * marks.
   */
  witness: ContentWitness | undefined;
  /**
   * Called with true if the export's medium was changed or removed, and with false on each new
   * connection on which it is the same.
   */
  onMedium: (changed: boolean) => void = () => undefined;
  #connection: Connection | undefined;
  /** The number of the latest connection. */
  #lastId: number;
  #waiting: NbdRequest[] = [];
  #state: NbdState = 'connected';
  /** Set while requests fail immediately: the reason. */
  #failure: BlockError | undefined;
  /** How long requests wait for a new connection, in ms; and the timer for the end of that time. */
  #patience: number;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  /** The timer for the end of waiting for requests in flight, once closing is imminent. */
  #closing: ReturnType<typeof setTimeout> | undefined;
  /** The latest reason for having no connection. */
  #reason = '';
  /** The pause before the next attempt to reconnect. */
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
    // Flushes on one connection make the writes of the others durable too ([NBD]
    // NBD_FLAG_CAN_MULTI_CONN), so all sessions share this.
    this.#durability = first ? first.#durability : new Durability(connection.agreement.state);
    if (first) this.#durability.reconnected(connection.agreement.state);
    this.#adopt(connection);
  }

  /**
   * Connects. Rejects with a FarbusError.
   * @param first the first session of the group, whose facts this one must match
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

  /** The number of requests that are in flight or wait. */
  get load(): number {
    return this.#waiting.length + (this.#connection?.load ?? 0);
  }

  /** The reason why requests fail immediately; undefined if they do not. */
  get failure(): BlockError | undefined {
    return this.#failure;
  }

  /** True if requests without a payload may have 64-bit lengths. */
  get wide(): boolean {
    return this.#facts.wide;
  }

  /** True if the server reports whether zeroing is faster than writing. */
  get fastZero(): boolean {
    return this.#facts.fastZero;
  }

  /** The medium of an export with a removable one; '' if the drive is empty. */
  get medium(): string | undefined {
    return this.#facts.medium;
  }

  /** True if, as far as is known, no request that was sent can still change the export. */
  get quiet(): boolean {
    return this.#connection?.load === 0;
  }

  /** Fences the session of an earlier process with that mark. If it rejects, try again later. */
  async fence(mark: Mark, signal: AbortSignal): Promise<Fate> {
    const connection = this.#connection;
    // A server without sessions may accept only a single connection.
    if (connection && connection.agreement.state === undefined) return 'unknown';
    const { exportName, connectSeconds, stallSeconds, secure } = this.#options;
    const options = { id: this.#nextId(), connectSeconds, stallSeconds, pool: this.#pool, secure, signal };
    return fenceSession(this.#dialer, mark, exportName, options);
  }

  /**
   * Runs a request. Its promise settles as RequestOptions.signal and the reconnect time prescribe.
   */
  run(ask: Ask): NbdRequest {
    const request = new NbdRequest(ask, (aborted) => this.#abandon(aborted));
    if (this.#state === 'closed') {
      request.fail(new BlockError('closed', 'the device is closed'));
    } else if (this.#isStale(request)) {
      request.fail(otherMedium());
    } else if (this.#failure) {
      request.fail(this.#failure);
      // A caller needs the connection: shorten the pause.
      this.#pause?.hurry();
    } else if (this.#waiting.length === 0 && this.#connection?.hasRoom(request)) {
      this.#send(request);
    } else {
      if (!this.#connection) request.lostAt = performance.now();
      this.#waiting.push(request);
    }
    return request;
  }

  /**
   * The session will be closed soon: requests in flight fail unless they are answered within a
   * short time.
   */
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

  /** Disconnects and closes, without a flush. Waiting requests fail with `closed`. */
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

  /** True if a request is meant for a medium that is no longer in the drive. */
  #isStale({ medium }: NbdRequest): boolean {
    return medium !== undefined && medium !== this.#facts.medium;
  }

  /**
   * The server says that the connection's medium is gone. A new connection tells which medium is in
   * the drive now, if any. If the connection began with an empty drive, only the answer to a check
   * is news.
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

  /**
   * The caller aborts a request. A request that the server may be working on waits for its answer.
   */
  #abandon(request: NbdRequest): void {
    const at = this.#waiting.indexOf(request);
    // With other sessions, a ghost request ends only when a later connection is admitted: until
    // then, requests of another session could be carried out before it.
    if (at < 0 || (request.ghost && this.several)) return;
    // Without other sessions, a ghost can be dropped: later requests go over a connection that the
    // server admits only after it has fenced the older ones.
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

  /** The server has admitted a new connection: requests on older ones can no longer take effect. */
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
    // Dial the server in any case, to find out which medium is in the drive now.
    const patience = reason === mediumLeft ? Math.max(this.#patience, renewMs) : this.#patience;
    const now = performance.now();
    const unreachable = this.#unreachable(reason);
    const again: NbdRequest[] = [];
    for (const request of unfinished) {
      request.lostAt ??= now;
      request.ghost = true;
      if (request.aborted && !this.several) request.fail(givenUp());
      // A request that loses one connection after another must not wait forever.
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
      // Close the old connection on our side before a new one is made.
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

  /**
   * The reason why the new connection's disk is not accepted as the one that requests wait for;
   * undefined if it is the same. Rejects if the connection fails.
   */
  async #otherDisk(connection: Connection): Promise<string | undefined> {
    const { info, medium } = this.#facts;
    if (this.#options.assumeSame || medium !== undefined) return undefined;
    const [then, now] = [info.marks ?? {}, connection.agreement.marks ?? {}];
    const byMarks = compareIdentity({ size: info.size, marks: then }, { size: info.size, marks: now }).verdict;
    if (byMarks === 'same') return undefined;
    // There is no witness if the first server reported a decisive mark. Then this server reports
    // none.
    const verdict = await this.witness?.check((offset, into) => readAlone(connection, offset, into));
    if (verdict === 'same') return undefined;
    if (verdict === 'other') return 'another disk has its name: its content differs';
    return 'no mark shows whether it is the same disk: open it again, or add ,assume-same to the source';
  }

  /**
   * The way in which the new connection's export breaks the promises of the first; undefined if it
   * keeps them.
   */
  #breach({ agreement }: Connection): string | undefined {
    try {
      const readOnly = this.#options.readOnly || (this.info.readOnly && agreement.medium === this.#facts.medium);
      const facts = factsOf(agreement, this.#options.exportName, readOnly);
      const breach = breachOf(this.#facts, facts);
      // Do not grow within a group, whose other connections negotiated the old size, nor if the
      // medium changed.
      if (breach === undefined && !this.several && agreement.medium === this.#facts.medium) this.#grow(facts.info.size);
      return breach;
    } catch (error) {
      return messageOf(error);
    }
  }

  #grow(found: number): void {
    const { info } = this.#facts;
    // Round down to this device's blocks: the server's blocks may have become smaller.
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
    // Another session of the group may have detected the loss already.
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

  /**
   * Adopts the new connection's medium; requests that wait for another medium fail.
   * @returns true if the medium has changed
   */
  #changeMedium({ agreement }: Connection): boolean {
    if (agreement.medium === undefined) return false;
    const changed = agreement.medium !== this.#facts.medium;
    this.#facts = factsOf(agreement, this.#options.exportName, this.#options.readOnly);
    const waiting = this.#waiting;
    this.#waiting = waiting.filter((request) => !this.#isStale(request));
    for (const request of waiting) if (this.#isStale(request)) request.fail(otherMedium());
    return changed;
  }

  /** The time to reconnect is over: waiting requests fail. Attempts to connect continue. */
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

/** The number of a session's first connection; later connections count up from it. */
export function firstConnectionId(): number {
  return 1 + (crypto.getRandomValues(new Uint32Array(1))[0]! % maxFirstId);
}

/** Reads over a connection that is not used for anything else yet. */
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
