/** What a server offers: named block devices, one of which is the default. Owns the devices: closes them at the end. */
import { FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { maxString } from '../protocol/nbd/spec.js';
import type { ExportCounters, ExportDirectory, TargetExport } from '../protocol/nbd/target/export.js';
import { SessionRegistry } from '../protocol/nbd/target/sessions.js';

/** One export, as its owner describes it. */
export interface ExportOptions {
  readonly name: string;
  readonly device: BlockDevice;
  readonly description?: string;
  readonly readOnly?: boolean;
  /** What names the life of the memory of its unflushed writes, where that is not the server's own. */
  readonly state?: string;
  /** Whether it is what a client gets that names none. The first export is, where none says so. */
  readonly isDefault?: boolean;
}

export class Exports implements ExportDirectory {
  readonly #byName = new Map<string, TargetExport>();
  readonly #state: string;
  #default: TargetExport | undefined;
  #explicitDefault = false;

  /** @param state What names the life of this computer's memory of unflushed writes; see {@link SessionRegistry.state}. */
  constructor(state = '') {
    this.#state = state;
  }

  /** Adds an export. Throws a FarbusError if its name is taken or no name. */
  add(options: ExportOptions): TargetExport {
    const { name, device, description = '', readOnly = false, isDefault = false } = options;
    checkName(name);
    if (this.#byName.has(name))
      throw new FarbusError(`there is an export ${JSON.stringify(name)} already: give it another name`);
    if (new TextEncoder().encode(description).length > maxString) {
      throw new FarbusError(
        `the description of export ${JSON.stringify(name)} is longer than ${maxString} bytes: shorten it`,
      );
    }
    const sessions = new SessionRegistry(options.state ?? this.#state);
    const counters: ExportCounters = { connections: 0, requests: 0, errors: 0, bytesRead: 0, bytesWritten: 0 };
    const added: TargetExport = { name, description, readOnly, device, sessions, counters };
    this.#byName.set(name, added);
    if (!this.#default || (isDefault && !this.#explicitDefault)) this.#default = added;
    this.#explicitDefault ||= isDefault;
    return added;
  }

  find(name: string): TargetExport | undefined {
    return this.#byName.get(name) ?? (name === '' ? this.#default : undefined);
  }

  list(): Iterable<TargetExport> {
    return this.#byName.values();
  }

  /** Closes all devices. Rejects with the first error, after all have been tried. */
  async close(): Promise<void> {
    const results = await Promise.allSettled([...this.#byName.values()].map(({ device }) => device.close()));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }
}

function checkName(name: string): void {
  if (name === '') throw new FarbusError('an export needs a name');
  if (name.includes('\0') || new TextEncoder().encode(name).length > maxString) {
    throw new FarbusError(`an export's name is at most ${maxString} bytes and has no NUL: give it another one`);
  }
}
