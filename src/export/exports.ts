/** What a server offers: named block devices, one of which is the default. Owns the devices: closes them at the end. */
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { byteAccess } from '../block/filters/byte-access.js';
import { LeaseArbiter } from '../block/filters/lease.js';
import { RateLimit } from '../block/filters/rate.js';
import { maxString } from '../protocol/nbd/spec.js';
import type { ExportCounters, ExportDirectory, TargetExport } from '../protocol/nbd/target/export.js';
import { SessionRegistry } from '../protocol/nbd/target/sessions.js';
import { Access, type AccessRules } from './access.js';
import { MeterFilter } from './meter.js';
import { SharedMedia } from './shared-media.js';

/** One export, as its owner describes it. */
export interface ExportOptions {
  readonly name: string;
  readonly device: BlockDevice;
  readonly description?: string | undefined;
  readonly readOnly?: boolean | undefined;
  /** What names the life of the memory of its unflushed writes, where that is not the server's own. */
  readonly state?: string | undefined;
  /** Whether it is offered over TLS only; without it, it is not in lists and cannot be used. */
  readonly tlsOnly?: boolean | undefined;
  /** Whether it is what a client gets that names none. The first export is, where none says so. */
  readonly isDefault?: boolean | undefined;
  /** Who may use it; all, where nothing is said. */
  readonly access?: AccessRules | undefined;
  /** Connections that may be in transmission on it at once; any number, where nothing is said. */
  readonly maxConnections?: number | undefined;
  /** One connection writes at a time: others get it read-only, or are refused. */
  readonly oneWriter?: 'read-only' | 'refuse' | undefined;
  /** Bytes a second in each direction, shared fairly among its connections. */
  readonly rate?: number | undefined;
  /** Whether its requests are timed. */
  readonly metered?: boolean | undefined;
}

/** A connection that uses an export, for those who look after the server. */
export interface ExportUser {
  /** "3": the number of the connection. */
  readonly id: string;
  readonly peer: string;
  readonly tlsName: string | undefined;
  /** When it came, in ms since 1970. */
  readonly since: number;
}

/** One export that is offered; what is of a single connection is in view.ts. */
export class Offered implements TargetExport {
  readonly name: string;
  /** Takes requests of any offset and length, whatever the blocks of the one that was given. */
  readonly device: BlockDevice;
  readonly sessions: SessionRegistry;
  readonly counters: ExportCounters = { connections: 0, requests: 0, errors: 0, bytesRead: 0, bytesWritten: 0 };
  readonly meter: MeterFilter | undefined;
  /** Who holds its medium, where that can be removed. */
  readonly media = new SharedMedia();
  /** Connections in transmission on it. */
  readonly users = new Set<ExportUser>();
  #options: ExportOptions;
  #access: Access;
  #lease: LeaseArbiter | undefined;
  #limit: RateLimit | undefined;
  /** Connections that have found it and may enter. */
  #held = 0;
  #retired = false;
  #closed: Promise<void> | undefined;

  constructor(options: ExportOptions, state: string) {
    this.name = options.name;
    // Below what each connection has of its own: all of them share the locks on blocks.
    const device = byteAccess(options.device);
    this.meter = options.metered ? new MeterFilter(device) : undefined;
    this.device = this.meter ?? device;
    this.sessions = new SessionRegistry(options.state ?? state);
    this.#lease = options.oneWriter && new LeaseArbiter(this.device);
    this.#limit = limitOf(options);
    this.#options = options;
    this.#access = new Access(options.access);
    check(options);
  }

  get blockSize(): number {
    return this.#options.device.info.blockSize;
  }

  get description(): string {
    return this.#options.description ?? '';
  }

  get readOnly(): boolean {
    return this.#options.readOnly ?? false;
  }

  get tlsOnly(): boolean {
    return this.#options.tlsOnly ?? false;
  }

  get access(): Access {
    return this.#access;
  }

  get maxConnections(): number {
    return this.#options.maxConnections ?? Infinity;
  }

  get oneWriter(): ExportOptions['oneWriter'] {
    return this.#options.oneWriter;
  }

  /** Who writes, where one writes at a time; by the ids of connections. */
  get lease(): LeaseArbiter | undefined {
    return this.#lease;
  }

  get limit(): RateLimit | undefined {
    return this.#limit;
  }

  /**
   * Takes what may change while the device is open, for connections that come. `oneWriter` cannot while somebody uses it:
   * throws a FarbusError.
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
          `one-writer of ${JSON.stringify(this.name)} can change when nobody uses it: try again then`,
        );
      }
      this.#lease = changed.oneWriter && new LeaseArbiter(this.device);
    }
    this.#access = access;
    this.#options = changed;
  }

  /** Whether a connection uses it or is about to. */
  get inUse(): boolean {
    return this.#held > 0;
  }

  hold(): void {
    this.#held++;
  }

  release(): void {
    this.#held--;
    if (this.#retired && this.#held === 0) void this.close().catch(() => undefined);
  }

  /** It is offered no more: closed when the last connection has left it. */
  retire(): void {
    this.#retired = true;
    if (this.#held === 0) void this.close().catch(() => undefined);
  }

  close(): Promise<void> {
    return (this.#closed ??= this.device.close());
  }
}

export class Exports implements ExportDirectory {
  readonly #byName = new Map<string, Offered>();
  readonly #retired = new Set<Offered>();
  readonly #state: string;
  #default: string | undefined;

  /** @param state What names the life of this computer's memory of unflushed writes; see {@link SessionRegistry.state}. */
  constructor(state = '') {
    this.#state = state;
  }

  /** Adds an export, and takes its device over. Throws a FarbusError if its name is taken or no name. */
  add(options: ExportOptions): Offered {
    if (this.#byName.has(options.name))
      throw new FarbusError(`there is an export ${JSON.stringify(options.name)} already: give it another name`);
    const added = new Offered(options, this.#state);
    this.#byName.set(added.name, added);
    if (options.isDefault) this.#default ??= added.name;
    return added;
  }

  /** Offers it no more. Connections that use it go on; then its device is closed. */
  remove(name: string): void {
    const found = this.#byName.get(name);
    if (!found) return;
    this.#byName.delete(name);
    if (this.#default === name) this.#default = undefined;
    this.#retired.add(found);
    found.retire();
  }

  /** What a client gets that names none. */
  setDefault(name: string | undefined): void {
    this.#default = name;
  }

  find(name: string): Offered | undefined {
    const found = this.#byName.get(name);
    if (found || name !== '') return found;
    if (this.#default !== undefined) return this.#byName.get(this.#default);
    return this.#byName.values().next().value;
  }

  list(): Iterable<Offered> {
    return this.#byName.values();
  }

  /** Closes all devices. Rejects with the first error, after all have been tried. */
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
  if (name.includes('\0') || new TextEncoder().encode(name).length > maxString) {
    throw new FarbusError(`an export's name is at most ${maxString} bytes and has no NUL: give it another one`);
  }
  if (name.includes(';token='))
    throw new FarbusError('an export cannot have ";token=" in its name: give it another one');
  if (new TextEncoder().encode(description).length > maxString) {
    throw new FarbusError(
      `the description of export ${JSON.stringify(name)} is longer than ${maxString} bytes: shorten it`,
    );
  }
}
