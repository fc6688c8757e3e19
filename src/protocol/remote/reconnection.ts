/**
 * Reconnection: what every initiator does from the loss of its server to its return. Requests wait
 * for at most the user's reconnect time. After that they fail, and later ones fail immediately,
 * until the server is back: attempts go on.
 *
 * The reconnect time is that of a process that runs. A laptop that sleeps, or a tab that is frozen,
 * first loses its server; when it wakes up, requests wait on until the server had a chance to
 * answer.
 *
 * Not here: each protocol's connection, and its fence against requests that an old connection left
 * behind (nbd/initiator/session.ts, channels/pool.ts, aoe/initiator/link.ts).
 */
import { AwakeClock } from '../../base/awake-clock.js';
import { messageOf } from '../../base/errors.js';
import { BackOff, usualPauses } from '../../base/back-off.js';
import { ThrottledLogger, type Logger, type LogLevel } from '../../base/log.js';
import { abortedError, BlockError, closedError } from '../../block/errors.js';
import type { PendingRequest } from './pending-request.js';

/**
 * The state of the way to a server: `connected`; `reconnecting`: requests wait; `lost`: the
 * reconnect time is over, requests fail immediately, and attempts to connect continue; `closed`.
 */
export type RemoteState = 'connected' | 'reconnecting' | 'lost' | 'closed';

export interface ReconnectionOptions {
  /** The address, for messages. */
  readonly address: string;
  /** How long requests wait for a lost server to return, in seconds. */
  readonly reconnectSeconds: number;
  readonly log: Logger;
  readonly onState: (state: RemoteState, detail: string) => void;
  /** Say nothing of losses and returns: a group of sessions does. Default false. */
  readonly grouped?: boolean | undefined;
  /** The first connection exists already: do not report it as a change of the state. */
  readonly connected?: boolean;
  /** Fails the requests that wait. */
  readonly failWaiting: (error: BlockError) => void;
  /**
   * Ends the requests in flight: the device is being closed, and the time for their answers is
   * over.
   */
  readonly cutOff: () => void;
}

export interface RetryOptions {
  /** Key of the log entry of a failed attempt. */
  readonly key: string;
  /** Make the first attempt without a pause. */
  readonly atOnce?: boolean;
  /**
   * Length of the pauses, in ms. Default: those of {@link BackOff}, longer after useless
   * connections.
   */
  readonly pauses?: { readonly first: number; readonly last: number };
}

/** How long closing waits for requests in flight, with or without a connection, in ms. */
const closeMs = 4000;
/** Longest reconnect time, in seconds. */
const longestSeconds = 2_000_000;

/**
 * A connection on which nothing is answered, and that is lost within this time, was of no use, in
 * ms. The pauses after several of them grow, or a server that accepts and closes at once would be
 * dialled ten times a second without an end.
 */
const briefMs = 1000;

export class Reconnection {
  readonly #options: ReconnectionOptions;
  readonly #log: ThrottledLogger;
  readonly #stop = new AbortController();
  readonly #backOffs = new Set<BackOff>();
  #state: RemoteState;
  #failure: BlockError | undefined;
  #away: number | undefined;
  #reason = '';
  /** How long requests wait for a new connection, in ms. */
  #patience: number;
  /** Cancels the end of that time; set while requests may have to wait. */
  #deadline: (() => void) | undefined;
  /** When the server was there again, in ms of `performance.now()`; -Infinity once it answers. */
  #since = -Infinity;
  /** Number of useless connections in succession. */
  #useless = 0;
  /** The timer for the end of waiting for requests in flight, once closing is imminent. */
  #closing: ReturnType<typeof setTimeout> | undefined;
  /**
   * Counts from each loss for the reconnect time, also after the return of the server: requests
   * that were sent again are not answered yet, and {@link keep} may have to know their age.
   */
  readonly #clock = new AwakeClock();

  constructor(options: ReconnectionOptions) {
    this.#options = options;
    this.#log = new ThrottledLogger(options.log);
    this.#state = options.connected ? 'connected' : 'reconnecting';
    this.#patience = Math.min(options.reconnectSeconds, longestSeconds) * 1000;
  }

  get state(): RemoteState {
    return this.#state;
  }

  /** The reason why requests fail immediately; undefined if they do not. */
  get failure(): BlockError | undefined {
    return this.#failure;
  }

  /** When the server was lost, in ms since 1970; undefined while it is there. */
  get away(): number | undefined {
    return this.#away;
  }

  /** The latest reason for having no connection or no fence. */
  get reason(): string {
    return this.#reason;
  }

  set reason(reason: string) {
    this.#reason = reason;
  }

  /** Time for {@link PendingRequest.lostAt}, in ms. It stands still while the process sleeps. */
  now(): number {
    return this.#clock.now();
  }

  /** Aborts when the device is closed. */
  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  /**
   * The server is lost: starts the reconnect time.
   * @param detail the cause, for the state
   * @param leastMs shortest time to wait, whatever the user set, in ms
   * @returns false if there is no time to wait: all requests have failed
   */
  lost(detail: string, leastMs = 0): boolean {
    this.#reason = detail;
    if (this.#away === undefined) this.#useless = performance.now() - this.#since < briefMs ? this.#useless + 1 : 0;
    this.#away ??= Date.now();
    const ms = Math.max(this.#patience, leastMs);
    if (ms === 0) {
      this.#state = 'reconnecting';
      this.fail(this.unreachable());
      return false;
    }
    this.#enter('reconnecting', detail);
    if (this.#deadline === undefined) this.#arm(ms);
    return true;
  }

  /** Requests wait for something else than a connection (a fence): limits that time as well. */
  watch(): void {
    // Even if the user does not want to reconnect, a fence takes its time.
    if (this.#deadline === undefined) this.#arm(this.#patience || closeMs);
  }

  /** No request has to wait any more. */
  calm(): void {
    this.#disarm();
    this.#failure = undefined;
  }

  /** There is a connection again. */
  connected(): void {
    this.#since = performance.now();
    this.#away = undefined;
    this.#enter('connected', this.#options.address);
  }

  /** The server has answered a request. */
  answered(): void {
    this.#since = -Infinity;
  }

  /**
   * Divides the unanswered requests of a lost connection. Returns those that wait for the next one.
   * The others fail: their callers have aborted them, or they have waited for too long, since a
   * request that loses one connection after another must not wait forever.
   * @param leastMs as in {@link lost}
   * @param keepAborted true if an aborted request must not end yet, because it may still take
   *   effect
   */
  keep<R extends PendingRequest>(unfinished: readonly R[], reason: string, leastMs = 0, keepAborted = false): R[] {
    const now = this.now();
    this.#reason = reason;
    const unreachable = this.unreachable();
    const patience = Math.max(this.#patience, leastMs);
    this.#clock.count(patience);
    return unfinished.filter((request) => {
      request.lostAt ??= now;
      if (request.aborted && !keepAborted) request.fail(abortedError());
      else if (now - request.lostAt >= patience) request.fail(unreachable);
      else return true;
      return false;
    });
  }

  /**
   * Makes attempts, with a back-off, until one returns true or the device is closed. An attempt
   * that rejects has failed.
   */
  async retry(attempt: () => Promise<boolean>, { key, atOnce = false, pauses }: RetryOptions): Promise<void> {
    const { first, last } = usualPauses;
    // A pause must not use up the reconnect time, or requests fail without a try.
    const longest = Math.max(first, Math.min(last, this.#patience / 4));
    const backOff = new BackOff(pauses ?? { first: Math.min(first * 2 ** this.#useless, longest), last });
    this.#backOffs.add(backOff);
    for (let pause = !atOnce; ; pause = true) {
      if (pause) await backOff.wait(this.stop);
      if (this.#state === 'closed') break;
      try {
        if (await attempt()) break;
      } catch (error) {
        if (this.stop.aborted) break;
        this.#reason = messageOf(error);
        this.say('debug', key, this.#reason);
      }
    }
    this.#backOffs.delete(backOff);
  }

  /** A caller needs the connection: shortens the pauses between attempts. */
  hurryAttempts(): void {
    for (const backOff of this.#backOffs) backOff.hurry();
  }

  /** The device will be closed soon: limits the time that requests wait or stay in flight. */
  hurry(): void {
    this.#closing ??= setTimeout(() => this.#tooLate(), closeMs);
    this.#patience = Math.min(this.#patience, closeMs);
    if (this.#deadline === undefined) return;
    this.#disarm();
    this.#arm(this.#patience);
  }

  /** Ends all attempts and timers. Returns false if that was done before. */
  close(): boolean {
    if (this.#state === 'closed') return false;
    this.#enter('closed', '');
    this.#disarm();
    this.#clock.stop();
    clearTimeout(this.#closing);
    this.#stop.abort(closedError());
    return true;
  }

  /** Requests fail, those that wait and later ones. Attempts to connect continue. */
  fail(error: BlockError): void {
    if (this.#state === 'closed') return;
    this.#disarm();
    if (this.#failure?.message !== error.message && !this.#options.grouped) this.say('error', 'failed', error.message);
    this.#failure = error;
    this.#options.failWaiting(error);
    if (this.#state !== 'connected') this.#enter('lost', error.message);
  }

  unreachable(): BlockError {
    const { address, reconnectSeconds } = this.#options;
    const waited = reconnectSeconds > 0 ? ` for ${reconnectSeconds} seconds` : '';
    return new BlockError('unreachable', `${address} is not reachable${waited}: ${this.#reason}`);
  }

  /** Logs one line that names the address. */
  say(level: LogLevel, key: string, message: string): void {
    const { address } = this.#options;
    this.#log.log(level, key, message.includes(address) ? message : withAddress(address, message));
  }

  #arm(ms: number): void {
    this.#deadline = this.#clock.after(ms, () => this.fail(this.unreachable()));
  }

  #disarm(): void {
    this.#deadline?.();
    this.#deadline = undefined;
  }

  #tooLate(): void {
    this.#patience = 0;
    this.#reason = 'the device is being closed';
    this.#options.cutOff();
    if (this.#deadline !== undefined) this.fail(this.unreachable());
  }

  #enter(state: RemoteState, detail: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onState(state, detail);
  }
}

/** Puts the address before a message for people, unless the message begins with it already. */
export function withAddress(address: string, message: string): string {
  return message.startsWith(address) ? message : `${address}: ${message}`;
}
