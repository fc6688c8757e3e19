/**
 * The VXLAN header (RFC 7348 section 5), and the table that tells behind which peer an address is
 * (section 4.1).
 *
 * Not here: IP and sockets (vxlan.node.ts).
 */

/** Bytes of the header: flags, reserved, VNI (24 bits), reserved. */
export const vxlanHeaderSize = 8;
/** Port assigned by IANA (RFC 7348 section 5). */
export const vxlanPort = 4789;
export const maxVni = 2 ** 24 - 1;
/** Flag I: the VNI is valid. */
const validVni = 0x08;

/** Writes the header at the start of a packet. */
export function putVxlanHeader(packet: Uint8Array, vni: number): void {
  packet.fill(0, 0, vxlanHeaderSize);
  packet[0] = validVni;
  packet[4] = vni >>> 16;
  packet[5] = vni >>> 8;
  packet[6] = vni;
}

/**
 * The VNI of a packet; undefined if it has none. Reserved bits are ignored, as section 5 requires.
 */
export function vniOf(packet: Uint8Array): number | undefined {
  if (packet.length < vxlanHeaderSize || (packet[0]! & validVni) === 0) return undefined;
  return (packet[4]! << 16) | (packet[5]! << 8) | packet[6]!;
}

interface Learned<P> {
  peer: P;
  /** Time of the last frame, in ms of `performance.now()`. */
  seenAt: number;
}

/**
 * Learned addresses and the peer behind which each was last seen. The table is bounded, and old
 * entries expire.
 */
export class LearningTable<P> {
  readonly #max: number;
  readonly #maxAgeMs: number;
  /** Keyed by address (macKey), least recently seen first. */
  readonly #learned = new Map<number, Learned<P>>();

  constructor(options: { readonly max: number; readonly maxAgeMs: number }) {
    this.#max = options.max;
    this.#maxAgeMs = options.maxAgeMs;
  }

  get size(): number {
    return this.#learned.size;
  }

  /** Records that a frame from `mac` came from `peer`. */
  learn(mac: number, peer: P, now = performance.now()): void {
    const known = this.#learned.get(mac);
    if (known) this.#learned.delete(mac);
    else if (this.#learned.size >= this.#max) this.#learned.delete(this.#learned.keys().next().value!);
    const entry = known ?? { peer, seenAt: now };
    entry.peer = peer;
    entry.seenAt = now;
    this.#learned.set(mac, entry);
  }

  /** The peer behind which `mac` is; undefined if that is not known. */
  find(mac: number, now = performance.now()): P | undefined {
    const known = this.#learned.get(mac);
    if (!known) return undefined;
    if (now - known.seenAt <= this.#maxAgeMs) return known.peer;
    this.#learned.delete(mac);
    return undefined;
  }
}
