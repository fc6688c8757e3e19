/**
 * Admission: limits the number of connections in total, from one address, and in the handshake.
 *
 * A connection in the handshake may be an attacker's, because its rights are still unknown. So
 * connections in the handshake have a limit of their own, and they cannot keep others out: if there
 * are too many, the oldest of the address with the most is closed.
 *
 * Not here: the time limit of a handshake (protocol/nbd/target/handshake-clock.ts), access to
 * exports (access.ts).
 */
export interface ConnectionLimits {
  /** Most connections at once. */
  readonly maxConnections: number;
  /**
   * Most connections from one address. An IPv6 network of 64 bits counts as one address; unix
   * sockets do not count.
   */
  readonly maxPerAddress: number;
  /** Most connections in the handshake. */
  readonly maxHandshakes: number;
}

export const defaultConnectionLimits: ConnectionLimits = {
  maxConnections: 4096,
  maxPerAddress: 1024,
  maxHandshakes: 1000,
};

/** A younger handshake is not closed, in ms: many honest clients may connect at the same time. */
const graceMs = 2000;
/** An address that has more handshakes than these gives way to another one without that grace. */
const fairShare = 4;

/** A connection that counts. */
export interface Admitted {
  readonly peer: string;
  /** Closes it; `reason` is for the log. */
  giveWay(reason: string): void;
}

interface Entry {
  readonly address: string;
  /** When it connected, in ms of performance.now(). */
  readonly since: number;
  /** True while it is in the handshake. */
  shaking: boolean;
}

export class Admission {
  /** May be changed at any time; present connections stay. */
  limits: ConnectionLimits;
  readonly #entries = new Map<Admitted, Entry>();
  readonly #perAddress = new Map<string, number>();
  /** Connections in the handshake by address, the oldest first. */
  readonly #shaking = new Map<string, Set<Admitted>>();
  #handshakes = 0;

  constructor(limits: ConnectionLimits = defaultConnectionLimits) {
    this.limits = limits;
  }

  /** Number of connections in the handshake. */
  get handshakes(): number {
    return this.#handshakes;
  }

  /**
   * The reason to refuse a new connection from `peer`; undefined to accept it. May close another
   * connection to make room.
   */
  refusal(peer: string): string | undefined {
    const { maxConnections, maxPerAddress, maxHandshakes } = this.limits;
    if (this.#entries.size >= maxConnections) {
      return `there are ${this.#entries.size} connections already (--max-connections)`;
    }
    const address = networkOf(peer);
    const there = address === undefined ? 0 : (this.#perAddress.get(address) ?? 0);
    if (there >= maxPerAddress) return `${there} connections come from there already (--max-per-address)`;
    if (this.#handshakes >= maxHandshakes && !this.#makeRoom(address ?? '')) {
      return `${this.#handshakes} connections are in the handshake already (--max-handshakes)`;
    }
    return undefined;
  }

  /** The connection has been accepted. */
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

  /** The connection is closed. */
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
   * Closes the oldest handshake of the address that has the most of them. Returns false, and closes
   * none, if that one is younger than {@link graceMs}. A flood from one address has no grace
   * against a newcomer of another one that has fewer.
   */
  #makeRoom(newcomer: string): boolean {
    let most = new Set<Admitted>();
    for (const shaking of this.#shaking.values()) if (shaking.size > most.size) most = shaking;
    const [oldest] = most;
    if (!oldest) return false;
    const floods = most.size > fairShare && (this.#shaking.get(newcomer)?.size ?? 0) < fairShare;
    if (!floods && performance.now() - this.#entries.get(oldest)!.since < graceMs) return false;
    // Stop counting it now: its end may be delayed by a device.
    this.entered(oldest);
    oldest.giveWay('it did not finish the handshake, and others wait (--max-handshakes)');
    return true;
  }
}

/**
 * The unit that counts as one address: an IPv4 address or an IPv6 network of 64 bits; undefined for
 * a unix socket.
 */
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
