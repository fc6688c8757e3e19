/**
 * The route of a session to its export: opens one connection after the other, each to the gateway
 * that is to be used (gateways.ts).
 *
 * Not here: what becomes of requests (session.ts).
 */
import type { Fate, FenceKey } from '../../../block/life.js';
import type { RetryOptions } from '../../remote/reconnection.js';
import { connect, type Connection, type ConnectionOptions } from './connection.js';
import { ExportChanged, type Gateways, type NbdGateway } from './gateways.js';
import type { PayloadPool } from './payload-pool.js';
import { fenceSession } from './predecessor.js';
import { firstConnectionId } from './session-id.js';

/** A connection is brief if it lasts less than this, in ms. */
const briefMs = 1000;
/** Longest pause between attempts at several gateways, in ms. */
const longestPauseMs = 2000;

export interface RouteOptions {
  readonly exportName: string;
  readonly readOnly: boolean;
  readonly looksOnly: boolean;
  readonly connectSeconds: number;
  readonly stallSeconds: number;
}

export class Route {
  readonly gateways: Gateways;
  readonly pool: PayloadPool;
  readonly #options: RouteOptions;
  /** The session's id. */
  readonly #session: string;
  /** The gateway of the latest connection, and the name of its memory. */
  #gateway: NbdGateway;
  #memory: string | undefined;
  /** The number of the latest connection. */
  #lastId = firstConnectionId() - 1;
  /** When the latest connection began, and how many in a row were lost soon after that. */
  #since = 0;
  #brief = 0;

  constructor(gateways: Gateways, session: string, pool: PayloadPool, options: RouteOptions) {
    this.gateways = gateways;
    this.pool = pool;
    this.#options = options;
    this.#session = session;
    this.#gateway = gateways.current;
  }

  /** The address of the gateway in use; undefined if there is only one. */
  get address(): string | undefined {
    return this.gateways.several ? this.#gateway.dialer.address : undefined;
  }

  /** False if requests must wait for a lost gateway although there are others. */
  mayMove(writes: boolean): boolean {
    return !this.gateways.several || this.gateways.mayLeave(this.#memory, writes);
  }

  /** True if another session has gone to another gateway, so that this one must follow. */
  get left(): boolean {
    return this.#gateway !== this.gateways.current;
  }

  /**
   * The first connection. Rejects with a FarbusError.
   * @param together use the gateway that another session has, and no other
   */
  open(signal: AbortSignal | undefined, together: boolean): Promise<Connection> {
    const { gateways } = this;
    return gateways.first(together ? [gateways.current] : gateways.all, async (gateway) => {
      const connection = await this.#connect(gateway, signal);
      this.#use(gateway, connection);
      return connection;
    });
  }

  /**
   * The next connection after the latest was lost.
   * @param writes true if the device may have changed the export
   * @param accept tells why a connection does not lead to the same export; undefined if it does
   * @throws ExportChanged if each gateway that may be used leads to another export
   */
  async again(
    writes: boolean,
    accept: (connection: Connection) => Promise<string | undefined>,
    signal: AbortSignal,
  ): Promise<Connection> {
    const [lost, memory] = [this.#gateway, this.#memory];
    return this.gateways.first(this.gateways.after(lost, memory, writes), async (gateway) => {
      const connection = await this.#connect(gateway, signal);
      const unsafe = gateway === lost ? undefined : this.gateways.notFenced(memory, connection, writes);
      const changed = unsafe ?? (await accept(connection).catch((error: unknown) => giveUp(connection, error)));
      if (changed === undefined) {
        this.#use(gateway, connection);
        return connection;
      }
      void connection.disconnect();
      const what = unsafe === undefined ? `the export changed: ${changed}` : changed;
      throw new ExportChanged(`${gateway.dialer.address}: ${what}`, changed);
    });
  }

  /** The latest connection is in use now. */
  began(): void {
    this.#since = performance.now();
  }

  /**
   * When to try first after a loss, and how long to pause then. With several gateways the next one
   * is tried at once. If each connection is soon lost again, for instance because two clients take
   * an image from one another, the pauses grow.
   */
  pace(): Pick<RetryOptions, 'atOnce' | 'pauses'> {
    if (!this.gateways.several) return {};
    this.#brief = performance.now() - this.#since < briefMs ? this.#brief + 1 : 0;
    const first = Math.min(50 * 2 ** this.#brief, longestPauseMs);
    return { atOnce: this.#brief === 0, pauses: { first, last: longestPauseMs } };
  }

  /** Fences the session of an earlier process with that key. If it rejects, try again later. */
  fence(key: FenceKey, signal: AbortSignal): Promise<Fate> {
    return fenceSession(this.gateways, key, this.#options.exportName, this.#connectionOptions(signal));
  }

  #use(gateway: NbdGateway, { negotiated }: Connection): void {
    this.#gateway = gateway;
    this.#memory = negotiated.state;
    this.gateways.use(gateway);
  }

  #connect({ dialer, secure }: NbdGateway, signal: AbortSignal | undefined): Promise<Connection> {
    const { exportName, readOnly, looksOnly } = this.#options;
    const wish = { exportName, session: this.#session, reader: readOnly || looksOnly };
    return connect(dialer, { ...this.#connectionOptions(signal), secure, wish });
  }

  #connectionOptions(signal: AbortSignal | undefined): Omit<ConnectionOptions, 'wish' | 'secure'> {
    const { connectSeconds, stallSeconds } = this.#options;
    this.#lastId = (this.#lastId % 0xffff_ffff) + 1;
    return { id: this.#lastId, connectSeconds, stallSeconds, pool: this.pool, signal };
  }
}

function giveUp(connection: Connection, error: unknown): never {
  connection.destroy();
  throw error;
}
