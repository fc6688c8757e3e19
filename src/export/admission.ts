/**
 * How many connections a server takes: in all, from one address, and before they have entered an export. A connection that
 * has not is not known to be allowed anything, so those have a bound of their own, and cannot keep others out: where
 * there are too many of them, the oldest gives way.
 *
 * Not here: how long a handshake may take (protocol/nbd/target/handshake-clock.ts), and who may use which export (access.ts).
 */
export interface ConnectionLimits {
  /** Connections at once. */
  readonly maxConnections: number;
  /** Of them from one address; an IPv6 network of 64 bits counts as one. Unix sockets have no address. */
  readonly maxPerAddress: number;
  /** Of them in the handshake. */
  readonly maxHandshakes: number;
}

export const defaultConnectionLimits: ConnectionLimits = {
  maxConnections: 4096,
  maxPerAddress: 1024,
  maxHandshakes: 1000,
};

/** How long a handshake is left alone, in ms: many clients that come at once are not each other's attackers. */
const graceMs = 2000;

/** A connection, as far as this is concerned with it. */
export interface Admitted {
  readonly peer: string;
  /** Ends it, for this reason. */
  giveWay(reason: string): void;
}

interface Entry {
  readonly address: string;
  /** When it came, in ms of performance.now(). */
  readonly since: number;
  shaking: boolean;
}

export class Admission {
  /** May be changed; connections that are there stay. */
  limits: ConnectionLimits;
  readonly #entries = new Map<Admitted, Entry>();
  readonly #perAddress = new Map<string, number>();
  /** In the handshake, the oldest first, by address. */
  readonly #shaking = new Map<string, Set<Admitted>>();
  #handshakes = 0;

  constructor(limits: ConnectionLimits = defaultConnectionLimits) {
    this.limits = limits;
  }

  /** Connections that are in the handshake. */
  get handshakes(): number {
    return this.#handshakes;
  }

  /**
   * Why a connection from `peer` cannot be taken now; undefined: it can. May end another one to make room.
   */
  refusal(peer: string): string | undefined {
    const { maxConnections, maxPerAddress, maxHandshakes } = this.limits;
    if (this.#entries.size >= maxConnections) {
      return `there are ${this.#entries.size} connections already (--max-connections)`;
    }
    const address = networkOf(peer);
    const there = address === undefined ? 0 : (this.#perAddress.get(address) ?? 0);
    if (there >= maxPerAddress) return `${there} connections come from there already (--max-per-address)`;
    if (this.#handshakes >= maxHandshakes && !this.#makeRoom()) {
      return `${this.#handshakes} connections are in the handshake already (--max-handshakes)`;
    }
    return undefined;
  }

  /** The connection has been taken. */
  add(connection: Admitted): void {
    const address = networkOf(connection.peer) ?? '';
    this.#entries.set(connection, { address, since: performance.now(), shaking: true });
    this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
    const shaking = this.#shaking.get(address);
    if (shaking) shaking.add(connection);
    else this.#shaking.set(address, new Set([connection]));
    this.#handshakes++;
  }

  /** The connection has entered an export. */
  entered(connection: Admitted): void {
    const entry = this.#entries.get(connection);
    if (!entry?.shaking) return;
    entry.shaking = false;
    this.#handshakes--;
    const shaking = this.#shaking.get(entry.address)!;
    shaking.delete(connection);
    if (shaking.size === 0) this.#shaking.delete(entry.address);
  }

  /** The connection is no more. */
  remove(connection: Admitted): void {
    const entry = this.#entries.get(connection);
    if (!entry) return;
    this.entered(connection);
    this.#entries.delete(connection);
    const left = this.#perAddress.get(entry.address)! - 1;
    if (left > 0) this.#perAddress.set(entry.address, left);
    else this.#perAddress.delete(entry.address);
  }

  /**
   * Ends the oldest handshake of the address that has the most of them. Returns whether there is room now: not where it has
   * not lasted for {@link graceMs}.
   */
  #makeRoom(): boolean {
    let most = new Set<Admitted>();
    for (const shaking of this.#shaking.values()) if (shaking.size > most.size) most = shaking;
    const [oldest] = most;
    if (!oldest || performance.now() - this.#entries.get(oldest)!.since < graceMs) return false;
    // Counted out now: it may still be waiting for a device.
    this.entered(oldest);
    oldest.giveWay('it did not finish the handshake, and others wait (--max-handshakes)');
    return true;
  }
}

/** What is counted as one address: an IPv4 address or an IPv6 network of 64 bits; undefined for a unix socket. */
function networkOf(peer: string): string | undefined {
  const v4 = /^(?:\[::ffff:)?(\d+\.\d+\.\d+\.\d+)\]?:\d+$/i.exec(peer)?.[1];
  if (v4 !== undefined) return v4;
  const v6 = /^\[([0-9a-f:]+)(?:%[^\]]*)?\]:\d+$/i.exec(peer)?.[1];
  if (v6 === undefined) return undefined;
  const [head = '', tail] = v6.split('::');
  const groups = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  while (tail !== undefined && groups.length + last.length < 8) groups.push('0');
  return [...groups, ...last].slice(0, 4).join(':');
}
