/**
 * Several sessions with one export, over which requests are spread. Used if the server says that
 * its connections see each other's writes ([NBD] NBD_FLAG_CAN_MULTI_CONN). Each session has its own
 * id, because a server closes the older connections of a session when a new one comes.
 *
 * All flushes go over the first session and cover the writes acknowledged on any. The loss of
 * acknowledged writes is detected for all sessions together.
 *
 * If one session cannot reconnect in time, all requests fail until it can. The server may still
 * carry out requests of the lost connection, and a caller could write over another session before
 * that.
 */
import { messageOf } from '../../../base/errors.js';
import { ThrottledLogger, type LogLevel } from '../../../base/log.js';
import type { BlockInfo } from '../../../block/device.js';
import type { Fate, FenceKey } from '../../../block/life.js';
import type { ContentWitness } from '../../../block/witness.js';
import { withAddress, type RemoteState } from '../../remote/reconnection.js';
import { NbdCommand } from '../spec.js';
import type { Gateways } from './gateways.js';
import type { Ask, NbdRequest } from './request.js';
import { Session, type SessionOptions } from './session.js';

/** Most connections to one export. */
export const maxConnections = 16;

/** The part of a session or a group that the initiator uses. */
export type Sessions = Pick<
  Session,
  'info' | 'mayMove' | 'wide' | 'fastZero' | 'medium' | 'witness' | 'quiet' | 'fence' | 'run' | 'hurry' | 'close'
> &
  Partial<Pick<Session, 'onMedium'>>;

/**
 * Opens an export with up to `count` connections: one if the server does not allow several, or as
 * many as it accepts. Rejects with a FarbusError if none succeeds.
 */
export async function openSessions(gateways: Gateways, options: SessionOptions, count: number): Promise<Sessions> {
  if (count <= 1) return Session.open(gateways, options);
  const states = new GroupState(gateways, options);
  const optionsOf = (index: number): SessionOptions => ({
    ...options,
    grouped: true,
    onState: (state, detail) => states.set(index, state, detail),
  });
  const first = await Session.open(gateways, optionsOf(0));
  // A removable medium needs a single session: with several, the order in which they notice a
  // change of the medium is unknown.
  if (!first.info.can.multiConnection || first.medium !== undefined) return first;
  const opened = await Promise.allSettled(
    Array.from({ length: count - 1 }, (_, index) => Session.open(gateways, optionsOf(index + 1), first)),
  );
  const sessions = [first];
  for (const [index, one] of opened.entries()) {
    if (one.status === 'fulfilled') sessions.push(one.value);
    else {
      states.forget(index + 1);
      options.log.log('info', `one connection less: ${messageOf(one.reason)}`);
    }
  }
  return sessions.length === 1 ? first : new SessionGroup(sessions);
}

class SessionGroup implements Sessions {
  readonly #sessions: readonly Session[];
  readonly #first: Session;

  constructor(sessions: readonly Session[]) {
    this.#sessions = sessions;
    this.#first = sessions[0]!;
    for (const session of sessions) session.several = true;
  }

  /** The server is away only if it is away for every session. */
  get info(): BlockInfo {
    const { info } = this.#first;
    if (info.away === undefined) return info;
    return this.#sessions.find((one) => one.info.away === undefined)?.info ?? info;
  }

  get mayMove(): boolean {
    return this.#first.mayMove;
  }

  get wide(): boolean {
    return this.#first.wide;
  }

  get medium(): undefined {
    return undefined;
  }

  get fastZero(): boolean {
    return this.#first.fastZero;
  }

  get quiet(): boolean {
    return this.#sessions.every(({ quiet }) => quiet);
  }

  get witness(): ContentWitness | undefined {
    return this.#first.witness;
  }

  set witness(witness: ContentWitness | undefined) {
    for (const session of this.#sessions) session.witness = witness;
  }

  fence(key: FenceKey, signal: AbortSignal): Promise<Fate> {
    return this.#first.fence(key, signal);
  }

  run(ask: Ask): NbdRequest {
    return this.#sessionFor(ask).run(ask);
  }

  hurry(): void {
    for (const session of this.#sessions) session.hurry();
  }

  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((session) => session.close()));
  }

  #sessionFor(ask: Ask): Session {
    let best = this.#first;
    let least = Infinity;
    for (const session of this.#sessions) {
      // The request fails immediately, and makes this session try to connect.
      if (session.failure) return session;
      const { load } = session;
      if (load >= least) continue;
      best = session;
      least = load;
    }
    return ask.type === NbdCommand.flush ? this.#first : best;
  }
}

/**
 * Combines the states of several sessions: reports the worst state, and each loss and return once.
 */
class GroupState {
  readonly #gateways: Gateways;
  readonly #log: ThrottledLogger;
  readonly #onState: SessionOptions['onState'];
  readonly #states = new Map<number, RemoteState>();
  #told: RemoteState | undefined;

  constructor(gateways: Gateways, { log, onState }: SessionOptions) {
    this.#gateways = gateways;
    this.#log = new ThrottledLogger(log);
    this.#onState = onState;
  }

  set(index: number, state: RemoteState, detail: string): void {
    this.#states.set(index, state);
    const all = [...this.#states.values()];
    const worst = order.find((one) => all.includes(one))!;
    // A closed session is ignored until all are closed.
    const told = all.every((one) => one === 'closed') ? 'closed' : worst;
    if (told === this.#told) return;
    const before = this.#told;
    this.#told = told;
    this.#report(before, told, detail);
    this.#onState(told, detail);
  }

  #report(before: RemoteState | undefined, now: RemoteState, detail: string): void {
    const { address, several, current } = this.#gateways;
    const say = (level: LogLevel, what: string): void => this.#log.log(level, now, withAddress(address, what));
    if (now === 'reconnecting' && before === 'connected') say('warn', `connection lost: ${detail}; reconnecting`);
    else if (now === 'lost') say('error', detail);
    else if (now === 'connected' && before !== undefined)
      say('info', several ? `at ${current.dialer.address} now` : 'connected again');
  }

  forget(index: number): void {
    this.#states.delete(index);
  }
}

const order: readonly RemoteState[] = ['lost', 'reconnecting', 'connected', 'closed'];
