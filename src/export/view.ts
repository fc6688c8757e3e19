/**
 * The exports as one connection sees them: the ones that it may use, with its own side of the
 * lease, the removable medium and the rate limit, and errors without texts for holders of tokens.
 * An export without these has no filter between a request and its device.
 *
 * Not here: the rules of access (access.ts), the exports themselves (exports.ts).
 */
import { messageOf } from '../base/errors.js';
import type { ThrottledLogger } from '../base/log.js';
import { newClientCounters, type ClientCounters, type ExportCounters } from '../block/export-counters.js';
import type { BlockDevice, BlockInfo } from '../block/device.js';
import { RateFilter } from '../block/filters/rate.js';
import type { SessionMember, SessionRegistry } from '../block/sessions.js';
import { splitToken, type ClientFacts } from './access.js';
import type { Exports, ExportUser, Offered } from './exports.js';
import { FactsFilter } from '../block/filters/facts.js';
import { kindOnly, KindsOnly } from './kinds-only.js';
import { WatchFilter } from './watch.js';

/**
 * Most exports that one connection may look up. A client that looks up more does not intend to use
 * them.
 */
const maxViews = 1024;

/**
 * The rights of a connection that an adapter has authenticated for one export before the protocol
 * began, such as one over HTTP with a token. It sees this export only.
 */
export interface Entry {
  /** The export's name; '' for the default export. */
  readonly exportName: string;
  /** True if it may not write. */
  readonly readOnly: boolean;
  /** True if the connection is encrypted below its protocol. */
  readonly encrypted: boolean;
  /** The names in the client's certificate. */
  readonly tlsNames: readonly string[];
  /** The id of the token that it has shown. */
  readonly token?: string;
  /** The name that the client gives itself. */
  readonly label?: string | undefined;
}

export class ConnectionView implements ExportUser, ClientFacts {
  readonly id: string;
  readonly peer: string;
  readonly since = Date.now();
  readonly counters = newClientCounters();
  readonly address: string | undefined;
  readonly token: string | undefined;
  readonly label: string | undefined;
  tlsName: string | undefined;
  tlsNames: readonly string[] = [];
  readonly #exports: Exports;
  readonly #log: ThrottledLogger;
  readonly #entry: Entry | undefined;
  readonly #views = new Map<Offered, ExportView>();
  #using: ExportView | undefined;

  /** @param peer "127.0.0.1:4711", "[::1]:4711", or other text for a peer without an IP address */
  constructor(exports: Exports, id: string, peer: string, log: ThrottledLogger, entry?: Entry) {
    this.#exports = exports;
    this.#entry = entry;
    this.tlsNames = entry?.tlsNames ?? [];
    this.tlsName = this.tlsNames[0];
    this.token = entry?.token;
    this.label = entry?.label;
    this.id = id;
    this.peer = peer;
    this.address = /^\[(.+)\]:\d+$/.exec(peer)?.[1] ?? /^([\d.]+):\d+$/.exec(peer)?.[1];
    this.#log = log;
  }

  /** The export that the connection has entered (transmission phase). */
  get using(): Offered | undefined {
    return this.#using?.offered;
  }

  /**
   * Reports the client's identity, proved by TLS. Earlier results of {@link find} were for an
   * unknown client.
   */
  identify(client: string, names: readonly string[]): void {
    this.tlsName = client;
    this.tlsNames = names;
  }

  /** Finds an export by name, which may contain a token of access; '' is the default export. */
  find(asked: string): ExportView | undefined {
    const offered = this.#offered(asked);
    if (!offered || this.#refusalOf(offered) !== undefined) return undefined;
    const known = this.#views.get(offered);
    if (known) return known;
    if (this.#views.size >= maxViews) return undefined;
    const view = new ExportView(offered, this, this.#entry, () => (this.#using = view));
    this.#views.set(offered, view);
    offered.hold();
    return view;
  }

  /** The exports that this connection may see. */
  *list(): Iterable<Offered> {
    if (this.#entry) {
      const offered = this.#exports.find(this.#entry.exportName);
      if (offered?.access.admitsEntered(this)) yield offered;
      return;
    }
    for (const offered of this.#exports.list()) if (offered.access.admits(this, undefined)) yield offered;
  }

  /** For the client: the reason why {@link find} returns undefined although the export exists. */
  refusal(asked: string): string | undefined {
    const offered = this.#offered(asked);
    return offered && this.#refusalOf(offered);
  }

  /** Logs the error of a device whose text the client does not get. */
  logError(exportName: string, error: unknown): void {
    const message = `${this.peer}: the export ${JSON.stringify(exportName)}: ${messageOf(error)}`;
    this.#log.log('warn', `error ${exportName}`, message);
  }

  /** Call when the connection is closed and none of its requests is in flight. */
  close(): void {
    for (const view of this.#views.values()) view.close();
    this.#views.clear();
  }

  /**
   * The export that the client asks for. Undefined if it does not exist or is forbidden: the client
   * must not see the difference.
   */
  #offered(asked: string): Offered | undefined {
    const { name, token } = splitToken(asked);
    const offered = this.#exports.find(this.#entry && name === '' ? this.#entry.exportName : name);
    if (!offered || this.#admits(offered, token)) return offered;
    const who = this.tlsName === undefined ? this.peer : `${this.peer} (${this.tlsName})`;
    this.#log.log('warn', 'access', `${who}: may not use the export ${JSON.stringify(offered.name)}`);
    return undefined;
  }

  #admits(offered: Offered, token: string | undefined): boolean {
    if (!this.#entry) return offered.access.admits(this, token);
    return offered === this.#exports.find(this.#entry.exportName) && offered.access.admitsEntered(this);
  }

  #refusalOf(offered: Offered): string | undefined {
    if (offered.users.size >= offered.maxConnections && !offered.users.has(this)) {
      return `this export has its ${offered.maxConnections} connections already: try again later`;
    }
    return undefined;
  }
}

/** One export as seen by one connection. */
export class ExportView {
  readonly offered: Offered;
  readonly device: BlockDevice;
  readonly #client: ConnectionView;
  readonly #entry: Entry | undefined;
  readonly #using: () => void;
  #connection: SessionMember | undefined;

  constructor(offered: Offered, client: ConnectionView, entry: Entry | undefined, using: () => void) {
    this.offered = offered;
    this.#client = client;
    this.#entry = entry;
    this.#using = using;
    let { device } = offered;
    if (offered.lease) {
      offered.lease.join(client.id, false);
      device = new SingleConnection(offered.lease.side(client.id));
    }
    const { media } = device;
    if (media) {
      const mayEject = (): boolean =>
        entry?.readOnly !== true && (!offered.lease || ['', client.id].includes(offered.lease.holder));
      device = offered.media.side(device, media, client.id, mayEject);
    }
    if (offered.limit) device = new RateFilter(device, offered.limit);
    if (offered.watch) device = new WatchFilter(device, offered.watch, { export: offered.name, client: client.id });
    if (entry) device = new KindsOnly(device, (error) => client.logError(offered.name, error));
    this.device = device;
  }

  get name(): string {
    return this.offered.name;
  }

  get blockSize(): number {
    return this.offered.blockSize;
  }

  get description(): string {
    return this.offered.description;
  }

  get readOnly(): boolean {
    const { lease } = this.offered;
    const readOnly = this.offered.readOnly || this.#entry?.readOnly === true;
    if (readOnly || !lease) return readOnly;
    // A client that comes while the lease moves gets no lease: do not tell it that it may write.
    return lease.moving || (lease.holder !== '' && lease.holder !== this.#client.id);
  }

  get tlsOnly(): boolean {
    return this.offered.tlsOnly && this.#entry?.encrypted !== true;
  }

  get sessions(): SessionRegistry {
    return this.offered.sessions;
  }

  get counters(): ExportCounters {
    return this.offered.counters;
  }

  get clientCounters(): ClientCounters {
    return this.#client.counters;
  }

  get admit(): ((writes: boolean) => Promise<void>) | undefined {
    const { takeOver } = this.offered;
    if (!takeOver) return undefined;
    if (!this.#entry) return (writes) => takeOver.admit(writes);
    const { readOnly } = this.#entry;
    return async (writes) => {
      await takeOver.admit(writes && !readOnly).catch((error: unknown) => {
        throw kindOnly(error, (full) => this.#client.logError(this.name, full));
      });
    };
  }

  /**
   * For the client: the reason why its connection cannot enter the export now. Readers never take
   * the lease, so they may always enter.
   * @param writes false if the client has said that it will change nothing
   */
  refusal(writes: boolean): string | undefined {
    const { oneWriter, lease, users, readOnly } = this.offered;
    const holder = lease?.holder ?? '';
    if (oneWriter !== 'refuse' || holder === '' || holder === this.#client.id) return undefined;
    if (!writes || readOnly || this.#entry?.readOnly === true) return undefined;
    // The holder of a token of the web server may not know the addresses of other clients.
    const writer = this.#entry ? undefined : [...users].find(({ id }) => id === holder);
    const who = writer ? `client ${writer.id} ${writer.peer}` : 'another client';
    return `${who} writes this export: try again when it has gone`;
  }

  /** @param writes false if the client has said that it will change nothing */
  entered(connection: SessionMember, writes: boolean): void {
    this.#connection = connection;
    this.offered.takeOver?.entered(connection);
    this.offered.users.add(this.#client);
    const wants = writes && !this.readOnly && !this.device.info.readOnly;
    this.offered.lease?.join(this.#client.id, wants);
    this.#using();
  }

  close(): void {
    this.offered.users.delete(this.#client);
    if (this.#connection) this.offered.takeOver?.left(this.#connection);
    this.offered.lease?.leave(this.#client.id);
    const { media } = this.offered.device;
    if (media) this.offered.media.leave(media, this.#client.id);
    this.offered.release();
  }
}

/**
 * Hides `multiConnection` on an export with one writer: a client's second connection would be
 * read-only.
 */
class SingleConnection extends FactsFilter {
  protected override describe(next: BlockInfo): BlockInfo {
    return { ...next, can: { ...next.can, multiConnection: false } };
  }
}
