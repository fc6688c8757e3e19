/**
 * The exports of a server: named block devices, one of which is the default. The exports own their
 * devices and close them at the end.
 *
 * Exports know no protocol. Adapters of equal rank serve them: nbd/ on connections, aoe/ on
 * Ethernet segments.
 *
 * Not here: what one connection sees (view.ts), who may use an export (access.ts).
 */
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { ClientCounters, ExportCounters } from '../block/export-counters.js';
import { byteAccess } from '../block/filters/byte-access.js';
import { LeaseArbiter } from '../block/filters/lease.js';
import { RateLimit } from '../block/filters/rate.js';
import { SessionRegistry } from '../block/sessions.js';
import { Access, type AccessRules } from './access.js';
import { MeterFilter } from './meter.js';
import { SharedMedia } from './shared-media.js';
import { TakeOverGate } from './take-over.js';
import type { CommandWatch } from './watch.js';

/** Longest name of an export, in bytes: as much as NBD allows ("Strings"). */
const maxName = 4096;

/** The description of an export. */
export interface ExportOptions {
  /** The name by which clients ask for it. */
  readonly name: string;
  /** Its disk. The exports close it. */
  readonly device: BlockDevice;
  /** A description for people. Default: none. */
  readonly description?: string | undefined;
  /** If true, writes are refused. Default: as the device says. */
  readonly readOnly?: boolean | undefined;
  /**
   * Identifies the lifetime of the memory that holds its unflushed writes; default: that of the
   * server's computer.
   */
  readonly state?: string | undefined;
  /** If true, it can be listed and used over TLS only. */
  readonly tlsOnly?: boolean | undefined;
  /** If true, it is the export of a client that gives no name. Default: the first export is. */
  readonly isDefault?: boolean | undefined;
  /** Rules of access. Default: every client may use it. */
  readonly access?: AccessRules | undefined;
  /** Most connections that may use it at once. Default: no limit. */
  readonly maxConnections?: number | undefined;
  /** If set, only one connection writes at a time; the others get it read-only or are refused. */
  readonly oneWriter?: 'read-only' | 'refuse' | undefined;
  /** Limit in bytes per second in each direction, shared fairly among its connections. */
  readonly rate?: number | undefined;
  /** If true, its requests are counted and timed. */
  readonly metered?: boolean | undefined;
  /** @internal Reports the requests of each connection. */
  readonly watch?: CommandWatch | undefined;
}

/** A connection that uses an export, as the server reports it. */
export interface ExportUser {
  /** "3": the number of the connection. */
  readonly id: string;
  /** The client's address. */
  readonly peer: string;
  /** The name in the client's certificate; undefined if it has none. */
  readonly tlsName: string | undefined;
  /** The id of the token that it has shown to the web server; undefined if it has shown none. */
  readonly token?: string | undefined;
  /** The name that it gives itself, for people; undefined if none. Any client can say any name. */
  readonly label?: string | undefined;
  /** When it connected, in ms since 1970. */
  readonly since: number;
  /** Counters of its use of the export. */
  readonly counters: Readonly<ClientCounters>;
}

/** One export, as all connections share it; view.ts has the part of a single connection. */
export class Offered {
  /** The name by which clients ask for it. */
  readonly name: string;
  /** The device with byte access: accepts requests of any offset and length. */
  readonly device: BlockDevice;
  /** @internal */
  readonly sessions: SessionRegistry;
  /** Counters since it was added. */
  readonly counters: ExportCounters = { connections: 0, requests: 0, errors: 0, bytesRead: 0, bytesWritten: 0 };
  /** @internal */
  readonly meter: MeterFilter | undefined;
  /** Locks of its removable medium. */
  readonly media = new SharedMedia();
  /** Connections that have entered it (transmission phase). */
  readonly users = new Set<ExportUser>();
  /** @internal Takes its storage over from other servers; undefined if that is never needed. */
  readonly takeOver: TakeOverGate | undefined;
  #options: ExportOptions;
  #access: Access;
  #lease: LeaseArbiter | undefined;
  #limit: RateLimit | undefined;
  /** Number of connections that have looked it up and may enter it. */
  #held = 0;
  #retired = false;
  #closed: Promise<void> | undefined;

  constructor(options: ExportOptions, state: string) {
    this.name = options.name;
    // Below the filters of single connections, so that all connections share its locks on blocks.
    const device = byteAccess(options.device);
    this.meter = options.metered ? new MeterFilter(device) : undefined;
    this.device = this.meter ?? device;
    const { takeOver } = options.device.writerLock ?? {};
    this.takeOver = takeOver && new TakeOverGate(takeOver);
    this.sessions = new SessionRegistry(options.state ?? state);
    this.#lease = options.oneWriter && new LeaseArbiter(this.device);
    this.#limit = limitOf(options);
    this.#options = options;
    this.#access = new Access(options.access);
    check(options);
  }

  /** The size of the device's blocks in bytes. */
  get blockSize(): number {
    return this.#options.device.info.blockSize;
  }

  /** A description for people; '' if there is none. */
  get description(): string {
    return this.#options.description ?? '';
  }

  /** True if writes are refused by a rule of the export. */
  get readOnly(): boolean {
    return this.#options.readOnly ?? false;
  }

  /** True if it can be used over TLS only. */
  get tlsOnly(): boolean {
    return this.#options.tlsOnly ?? false;
  }

  /** @internal */
  get access(): Access {
    return this.#access;
  }

  /** Most connections at once; Infinity for no limit. */
  get maxConnections(): number {
    return this.#options.maxConnections ?? Infinity;
  }

  /** How further connections are treated while one writes. */
  get oneWriter(): ExportOptions['oneWriter'] {
    return this.#options.oneWriter;
  }

  /** The lease of an export with one writer; its sides are the ids of connections. */
  get lease(): LeaseArbiter | undefined {
    return this.#lease;
  }

  /** @internal */
  get watch(): CommandWatch | undefined {
    return this.#options.watch;
  }

  /** @internal */
  get limit(): RateLimit | undefined {
    return this.#limit;
  }

  /**
   * Changes options while the device is open. They apply to new connections.
   * @throws FarbusError if an option is invalid, or if `oneWriter` changes while the export is in
   * use
   */
  change(
    options: Pick<ExportOptions, 'description' | 'tlsOnly' | 'access' | 'maxConnections' | 'rate' | 'oneWriter'>,
  ): void {
    const before = this.#options;
    const changed = { ...before, ...options };
    check(changed);
    const access = new Access(changed.access);
    if (changed.rate !== before.rate) this.#limit = limitOf(changed);
    if (changed.oneWriter !== before.oneWriter) {
      if (this.inUse) {
        throw new FarbusError(
          `one-writer of ${JSON.stringify(this.name)} can change only while no client uses it: try again then`,
        );
      }
      this.#lease = changed.oneWriter && new LeaseArbiter(this.device);
    }
    this.#access = access;
    this.#options = changed;
  }

  /** True if a connection uses it or may enter it. */
  get inUse(): boolean {
    return this.#held > 0;
  }

  /** A connection has looked it up. */
  hold(): void {
    this.#held++;
  }

  /** A connection that called {@link hold} has ended. */
  release(): void {
    this.#held--;
    if (this.#retired && this.#held === 0) void this.close().catch(() => undefined);
  }

  /**
   * Call when the export has been removed from the server. Its device is closed when the last
   * connection has left.
   */
  retire(): void {
    this.#retired = true;
    if (this.#held === 0) void this.close().catch(() => undefined);
  }

  /** Closes its device. Idempotent. */
  close(): Promise<void> {
    return (this.#closed ??= this.device.close());
  }
}

/** The disks that a server offers, by name. They own their devices. */
export class Exports {
  readonly #byName = new Map<string, Offered>();
  readonly #retired = new Set<Offered>();
  readonly #state: string;
  #default: string | undefined;

  /**
   * @param state identifies the lifetime of this computer's memory, which holds unflushed writes;
   * see SessionRegistry.state
   */
  constructor(state = '') {
    this.#state = state;
  }

  /**
   * Adds an export and takes over its device.
   * @throws FarbusError if its name is taken or invalid
   */
  add(options: ExportOptions): Offered {
    if (this.#byName.has(options.name))
      throw new FarbusError(`there is an export ${JSON.stringify(options.name)} already: give it another name`);
    const added = new Offered(options, this.#state);
    this.#byName.set(added.name, added);
    if (options.isDefault) this.#default ??= added.name;
    return added;
  }

  /**
   * Removes an export. Connections that use it continue; its device is closed when the last one has
   * ended.
   */
  remove(name: string): void {
    const found = this.#byName.get(name);
    if (!found) return;
    this.#byName.delete(name);
    if (this.#default === name) this.#default = undefined;
    this.#retired.add(found);
    found.retire();
  }

  /** Sets the export of a client that gives no name. */
  setDefault(name: string | undefined): void {
    this.#default = name;
  }

  /** The export of a name; '' finds the default one. Undefined if there is none. */
  find(name: string): Offered | undefined {
    const found = this.#byName.get(name);
    if (found || name !== '') return found;
    if (this.#default !== undefined) return this.#byName.get(this.#default);
    return this.#byName.values().next().value;
  }

  /** All exports, in the order in which they were added. */
  list(): Iterable<Offered> {
    return this.#byName.values();
  }

  /** Closes all devices. Rejects with the first error after it has tried to close each of them. */
  async close(): Promise<void> {
    const all = [...this.#byName.values(), ...this.#retired];
    const results = await Promise.allSettled(all.map((one) => one.close()));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }
}

function limitOf({ rate }: ExportOptions): RateLimit | undefined {
  return rate === undefined ? undefined : new RateLimit(rate);
}

function check({ name, description = '' }: ExportOptions): void {
  if (name === '') throw new FarbusError('an export needs a name');
  if (/\p{Surrogate}/u.test(name))
    throw new FarbusError('an export has a name that is no Unicode text: give it another');
  if (name.includes('\0') || new TextEncoder().encode(name).length > maxName) {
    throw new FarbusError(`an export's name is at most ${maxName} bytes and has no NUL: give it another one`);
  }
  if (name.includes(';token='))
    throw new FarbusError('an export cannot have ";token=" in its name: give it another one');
  if (new TextEncoder().encode(description).length > maxName) {
    throw new FarbusError(
      `the description of export ${JSON.stringify(name)} is longer than ${maxName} bytes: shorten it`,
    );
  }
}
