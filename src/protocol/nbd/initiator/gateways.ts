/**
 * The gateways of one export: servers that offer the same disk (docs/failover.md). One is in use.
 * When it is lost, a session goes to the next that answers and is safe to use.
 *
 * A gateway is safe for a device that may write only if a fence stops the writes that the lost one
 * still has. A Farbus server says so by the name of its memory (spec.ts, sharedMemory): the name is
 * the same on all gateways of one storage, and admission to one of them ends the others.
 *
 * Not here: repeating requests (session.ts), the fence itself (the server's storage/rbd).
 */
import { FarbusError, messageOf } from '../../../base/errors.js';
import type { Dialer, Secure } from '../../../network/stream.js';
import { sharedMemory } from '../spec.js';
import type { Connection } from './connection.js';

/** A server that offers the export. */
export interface NbdGateway {
  /** Opens its connections. */
  readonly dialer: Dialer;
  /** Encrypts its connections. Default: they are not encrypted. */
  readonly secure?: Secure | undefined;
}

/** No gateway that answers leads to the export that requests wait for. */
export class ExportChanged extends FarbusError {
  /** The reason alone, without the address. */
  readonly why: string;

  constructor(message: string, why: string) {
    super(message);
    this.why = why;
  }
}

export interface GatewayOptions {
  /** Names all of them, for messages. */
  readonly address: string;
  readonly unfenced: boolean;
}

export class Gateways {
  readonly address: string;
  readonly #all: readonly NbdGateway[];
  /** Another gateway may be used even if no fence stops what the lost one still has. */
  readonly unfenced: boolean;
  readonly #listeners = new Set<() => void>();
  #current: NbdGateway;

  constructor(all: readonly [NbdGateway, ...NbdGateway[]], { address, unfenced }: GatewayOptions) {
    this.address = address;
    this.#all = all;
    this.unfenced = unfenced;
    this.#current = all[0];
  }

  get several(): boolean {
    return this.#all.length > 1;
  }

  /** The gateway in use. */
  get current(): NbdGateway {
    return this.#current;
  }

  /** A session uses this gateway now: those that share the export follow it. */
  use(gateway: NbdGateway): void {
    if (gateway === this.#current) return;
    this.#current = gateway;
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` whenever another gateway is in use. */
  watch(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** All gateways, from the one in use on. */
  get all(): NbdGateway[] {
    return this.#from(this.#current);
  }

  /**
   * The gateways to try after `lost` was lost, in order.
   * @param memory name of the memory of the lost gateway
   * @param writes true if the device may write
   */
  after(lost: NbdGateway, memory: string | undefined, writes: boolean): NbdGateway[] {
    if (!this.mayLeave(memory, writes)) return [lost];
    const at = this.#all.indexOf(lost);
    const next = this.#all[(at + 1) % this.#all.length]!;
    return this.#from(this.#current === lost ? next : this.#current);
  }

  /** True if requests may continue at another gateway than the one whose memory has this name. */
  mayLeave(memory: string | undefined, writes: boolean): boolean {
    return this.several && (!writes || this.unfenced || isShared(memory));
  }

  /**
   * The reason why requests of a lost gateway must not continue over a connection to another one;
   * undefined if they may.
   */
  notFenced(before: string | undefined, { negotiated }: Connection, writes: boolean): string | undefined {
    if (!writes || this.unfenced || (isShared(before) && negotiated.state === before)) return undefined;
    return 'no fence stops the writes that the lost gateway may still have';
  }

  /**
   * Runs `attempt` for one gateway after the other, until one succeeds.
   * @throws FarbusError that names the failure of each
   */
  async first<T>(gateways: readonly NbdGateway[], attempt: (gateway: NbdGateway) => Promise<T>): Promise<T> {
    const failures: unknown[] = [];
    for (const gateway of gateways) {
      try {
        return await attempt(gateway);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    const text = failures.map(messageOf).join('; ');
    const changed = failures.filter((one) => one instanceof ExportChanged);
    if (changed.length === failures.length) {
      throw new ExportChanged(text, changed.map(({ why }) => why).join('; '));
    }
    throw new FarbusError(text, { cause: failures[0] });
  }

  #from(first: NbdGateway): NbdGateway[] {
    const at = this.#all.indexOf(first);
    return [...this.#all.slice(at), ...this.#all.slice(0, at)];
  }
}

/** True if the memory belongs to storage that several gateways use, with a fence between them. */
export function isShared(memory: string | undefined): boolean {
  return memory?.startsWith(sharedMemory) ?? false;
}
