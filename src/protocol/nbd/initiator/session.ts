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
import { FarbusError } from '../../../base/errors.js';
import type { Logger } from '../../../base/log.js';
import type { Steps } from '../../../base/steps.js';
import type { BlockInfo } from '../../../block/device.js';
import { abortedError, BlockError, closedError } from '../../../block/errors.js';
import type { Fate, Life, FenceKey } from '../../../block/life.js';
import type { ContentWitness } from '../../../block/witness.js';
import { Durability } from '../../remote/durability.js';
import { Reconnection, type RemoteState } from '../../remote/reconnection.js';
import { NbdCommand } from '../spec.js';
import type { Connection } from './connection.js';
import { ExportState, otherMedium } from './export-state.js';
import { factsOf, memoryOf } from './facts.js';
import { ExportChanged, type Gateways } from './gateways.js';
import { PayloadPool } from './payload-pool.js';
import { NbdRequest, type Ask } from './request.js';
import { sessionKey } from './predecessor.js';
import { Route, type RouteOptions } from './route.js';
import { otherDisk } from './same-disk.js';
import { newSessionId } from './session-id.js';
import { traceSent } from './trace.js';

export interface SessionOptions extends RouteOptions {
  readonly reconnectSeconds: number;
  /** If a disk cannot be recognised after a reconnect, assume that it is the same one. */
  readonly assumeSame: boolean;
  readonly onOther: ((why: string) => void) | undefined;
  /** Stores the session's fence key before anything is written. */
  readonly life: Life | undefined;
  /** Ends the opening. */
  readonly signal: AbortSignal | undefined;
  readonly log: Logger;
  readonly steps: Steps;
  readonly onState: (state: RemoteState, detail: string) => void;
  /** The group that the session belongs to reports losses and returns. */
  readonly grouped?: boolean;
}

/** Shortest reconnect time after a change of the medium, in ms. */
const renewMs = 10_000;
export class Session {
  readonly #export: ExportState;
  readonly #route: Route;
  readonly #options: SessionOptions;
  readonly #reconnection: Reconnection;
  readonly #steps: Steps;
  readonly #durability: Durability;
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
  #waiting: NbdRequest[] = [];
  /** The connection is being left because the medium has changed. */
  #mediumLeft = false;

  private constructor(route: Route, options: SessionOptions, connection: Connection, first?: Session) {
    const { exportName, readOnly } = options;
    const { negotiated } = connection;
    this.#route = route;
    this.#options = options;
    this.#steps = options.steps;
    this.#reconnection = new Reconnection({
      ...options,
      address: route.gateways.address,
      failWaiting: (error) => this.#failWaiting(error),
      cutOff: () => this.#connection?.giveUp('the device is being closed'),
    });
    this.#export = new ExportState(first ? first.#export.facts : factsOf(negotiated, exportName, readOnly), options);
    const breach = this.#export.breach(negotiated);
    if (breach !== undefined)
      throw new FarbusError(`${route.gateways.address}: another export on another connection: ${breach}`);
    // Flushes on one connection make the writes of the others durable too ([NBD]
    // NBD_FLAG_CAN_MULTI_CONN), so all sessions share this.
    this.#durability = first ? first.#durability : new Durability();
    this.#durability.connected(memoryOf(connection.negotiated));
    route.gateways.watch(() => {
      if (route.left) this.#connection?.leave('another gateway is in use');
    });
    this.#adopt(connection);
  }

  /**
   * Connects. Rejects with a FarbusError.
   * @param first the first session of the group, whose facts this one must match
   */
  static async open(gateways: Gateways, options: SessionOptions, first?: Session): Promise<Session> {
    const id = newSessionId();
    const route = new Route(gateways, id, first ? first.#route.pool : new PayloadPool(), options);
    const connection = await route.open(options.signal, first !== undefined);
    try {
      await options.life?.note(sessionKey(id, connection.negotiated.state !== undefined));
      return new Session(route, options, connection, first);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  get info(): BlockInfo {
    return this.#export.facts.info;
  }

  /** True if the device may change the export. */
  get #writes(): boolean {
    return !this.info.readOnly && !this.#options.looksOnly;
  }

  /** The number of requests that are in flight or wait. */
  get load(): number {
    return this.#waiting.length + (this.#connection?.load ?? 0);
  }

  /** The reason why requests fail immediately; undefined if they do not. */
  get failure(): BlockError | undefined {
    return this.#reconnection.failure;
  }

  /** False if requests must wait for a lost gateway although there are others. */
  get mayMove(): boolean {
    return this.#route.mayMove(this.#writes);
  }

  /** True if requests without a payload may have 64-bit lengths. */
  get wide(): boolean {
    return this.#export.facts.wide;
  }

  /** True if the server reports whether zeroing is faster than writing. */
  get fastZero(): boolean {
    return this.#export.facts.fastZero;
  }

  /** The medium of an export with a removable one; '' if the drive is empty. */
  get medium(): string | undefined {
    return this.#export.facts.medium;
  }

  /** True if, as far as is known, no request that was sent can still change the export. */
  get quiet(): boolean {
    return this.#connection?.load === 0;
  }

  /** Fences the session of an earlier process with that key. If it rejects, try again later. */
  async fence(key: FenceKey, signal: AbortSignal): Promise<Fate> {
    const connection = this.#connection;
    // A server without sessions may accept only a single connection.
    if (connection && connection.negotiated.state === undefined) return 'unknown';
    return this.#route.fence(key, signal);
  }

  /**
   * Runs a request. Its promise settles as RequestOptions.signal and the reconnect time prescribe.
   */
  run(ask: Ask): NbdRequest {
    const request = new NbdRequest(ask, (aborted) => this.#abandon(aborted));
    const { state, failure } = this.#reconnection;
    if (state === 'closed') {
      request.fail(closedError());
    } else if (this.#export.isStale(request)) {
      request.fail(otherMedium());
    } else if (failure) {
      request.fail(failure);
      this.#reconnection.hurryAttempts();
    } else if (this.#waiting.length === 0 && this.#connection?.hasRoom(request)) {
      this.#send(request);
    } else {
      if (!this.#connection) request.lostAt = this.#reconnection.now();
      this.#waiting.push(request);
    }
    return request;
  }

  /**
   * The session will be closed soon: requests in flight fail unless they are answered within a
   * short time.
   */
  hurry(): void {
    this.#reconnection.hurry();
  }

  /** Disconnects and closes, without a flush. Waiting requests fail with `closed`. */
  async close(): Promise<void> {
    if (!this.#reconnection.close()) return;
    this.#failWaiting(closedError());
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.disconnect();
  }

  #send(request: NbdRequest): void {
    if (request.type === NbdCommand.flush) {
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
    this.#reconnection.answered();
    if (request.error) {
      request.fail(request.error);
      if (request.error.kind === 'no-medium') this.#mediumGone(request, connection);
      return;
    }
    if (request.needsFlush) this.#durability.wrote(memoryOf(connection.negotiated));
    else if (request.type === NbdCommand.flush) this.#durability.flushed(request);
    request.succeed();
  }

  /**
   * The server says that the connection's medium is gone. A new connection tells which medium is in
   * the drive now, if any. If the connection began with an empty drive, only the answer to a check
   * is news.
   */
  #mediumGone({ type }: NbdRequest, connection: Connection): void {
    const { medium } = connection.negotiated;
    if (medium === undefined || connection !== this.#connection) return;
    if (medium === '' && type !== NbdCommand.media) return;
    this.#export.emptied();
    this.#mediumLeft = true;
    connection.leave('the medium is another or gone');
    if (medium !== '') this.onMedium(true);
  }

  /** The caller aborts a request. One that the server may be working on waits for its answer. */
  #abandon(request: NbdRequest): void {
    const at = this.#waiting.indexOf(request);
    if (at < 0) return;
    // The server may still carry out a request of a lost connection. If the caller's next request
    // went first, over another connection, the old one would undo it. So it waits (`#olderEnded`).
    if (request.mayRun && this.several) return;
    // With one connection it need not: a Farbus server admits the next after the old requests.
    this.#waiting.splice(at, 1);
    request.fail(abortedError());
  }

  #adopt(connection: Connection): void {
    this.#connection = connection;
    this.#route.began();
    this.#export.reachedBy(this.#route.address);
    this.#reconnection.calm();
    this.#olderEnded();
    connection.start({
      answered: (request) => this.#answered(request, connection),
      room: () => {
        if (this.#waiting.length > 0) this.#pump();
      },
      lost: (reason, unfinished) => this.#lost(connection, reason, unfinished),
    });
    this.#reconnection.connected();
    this.#pump();
  }

  /**
   * The server has admitted a new connection: requests on older ones can no longer take effect.
   * Ends the requests whose callers have aborted them meanwhile.
   */
  #olderEnded(): void {
    this.#waiting = this.#waiting.filter((request) => {
      request.mayRun = false;
      if (request.aborted) request.fail(abortedError());
      return !request.aborted;
    });
  }

  #lost(connection: Connection, reason: string, unfinished: NbdRequest[]): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    const mediumLeft = this.#mediumLeft;
    this.#mediumLeft = false;
    // Dial the server in any case, to find out which medium is in the drive now.
    const leastMs = mediumLeft ? renewMs : 0;
    for (const request of unfinished) request.mayRun = true;
    const again = this.#reconnection.keep(unfinished, reason, leastMs, this.several);
    this.#waiting = [...again, ...this.#waiting];
    const now = this.#reconnection.now();
    for (const request of this.#waiting) request.lostAt ??= now;
    const waits = this.#reconnection.lost(reason, leastMs);
    this.#export.lost(this.#reconnection.away);
    if (!waits) return connection.destroy();
    if (mediumLeft) this.#reconnection.say('info', 'medium', reason);
    else if (!this.#options.grouped) {
      const waiting = `${this.#waiting.length} requests wait`;
      this.#reconnection.say('warn', 'lost', `connection lost: ${reason}; reconnecting, ${waiting}`);
    }
    void this.#reconnection.retry(() => this.#reconnect(connection), { key: 'attempt', ...this.#route.pace() });
  }

  /** One attempt to reconnect. */
  async #reconnect(old: Connection): Promise<boolean> {
    // Close the old connection on our side before a new one is made.
    old.destroy();
    const { onOther } = this.#options;
    const accept = async (one: Connection): Promise<string | undefined> => {
      const why = this.#export.breach(one.negotiated) ?? (await this.#otherDisk(one));
      // Before the connection is closed: the caller may tell its peer the reason.
      if (why !== undefined) onOther?.(why);
      return why;
    };
    try {
      this.#resume(await this.#route.again(this.#writes, accept, this.#reconnection.stop));
      return true;
    } catch (error) {
      if (!(error instanceof ExportChanged)) throw error;
      if (onOther) throw error;
      this.#reconnection.fail(new BlockError('io', error.message));
      return false;
    }
  }

  /**
   * The reason why the new connection's disk is not accepted as the one that requests wait for;
   * undefined if it is the same. Rejects if the connection fails.
   */
  async #otherDisk(connection: Connection): Promise<string | undefined> {
    const { info, medium } = this.#export.facts;
    if (this.#options.assumeSame || medium !== undefined) return undefined;
    return otherDisk(info, connection, this.witness);
  }

  #resume(connection: Connection): void {
    if (this.#reconnection.state === 'closed') return void connection.disconnect();
    // Another session of the group may have detected the loss already.
    const lost = this.#durability.connected(memoryOf(connection.negotiated)) ?? this.#durability.lost;
    if (lost) {
      this.#reconnection.say('error', 'unflushed', lost.message);
      const flushes = this.#waiting.filter((request) => request.type === NbdCommand.flush);
      if (flushes.length > 0) {
        this.#waiting = this.#waiting.filter((request) => request.type !== NbdCommand.flush);
        for (const flush of flushes) flush.fail(lost);
        this.#durability.told();
      }
    }
    const { address } = this.#route;
    if (!this.#options.grouped) {
      const where = address === undefined ? 'connected again' : `at ${address} now`;
      this.#reconnection.say('info', 'connected', `${where}, ${this.#waiting.length} requests waited`);
    }
    const { negotiated } = connection;
    // Within a group, the other connections negotiated the old size.
    const before = this.several ? undefined : this.#export.grow(negotiated);
    if (before !== undefined)
      this.#reconnection.say('info', 'grown', `the export has ${this.info.size} bytes now and had ${before}`);
    const changed = this.#export.changeMedium(negotiated);
    this.#failWaiting(otherMedium(), (request) => this.#export.isStale(request));
    this.#adopt(connection);
    this.onMedium(changed);
  }

  #failWaiting(error: BlockError, which: (request: NbdRequest) => boolean = () => true): void {
    const failing = this.#waiting.filter(which);
    this.#waiting = this.#waiting.filter((request) => !failing.includes(request));
    for (const request of failing) request.fail(error);
  }
}
