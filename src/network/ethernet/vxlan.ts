/**
 * VXLAN's header (RFC 7348 section 5) and the table of which address is behind which peer (section 4.1). No IP, no
 * sockets: those are in vxlan.node.ts.
 */

/** Flags, reserved, VNI (24 bits), reserved: in bytes. */
export const vxlanHeaderSize = 8;
/** IANA's port, RFC 7348 section 5. */
export const vxlanPort = 4789;
export const maxVni = 2 ** 24 - 1;
/** Bit I: the VNI is valid. */
const validVni = 0x08;

/** Writes the header of a packet. */
export function putVxlanHeader(packet: Uint8Array, vni: number): void {
  packet.fill(0, 0, vxlanHeaderSize);
  packet[0] = validVni;
  packet[4] = vni >>> 16;
  packet[5] = vni >>> 8;
  packet[6] = vni;
}

/** The VNI of a packet; undefined where it has none. Reserved bits are ignored, as section 5 has it. */
export function vniOf(packet: Uint8Array): number | undefined {
  if (packet.length < vxlanHeaderSize || (packet[0]! & validVni) === 0) return undefined;
  return (packet[4]! << 16) | (packet[5]! << 8) | packet[6]!;
}

interface Learned<P> {
  peer: P;
  /** performance.now(). */
  seenAt: number;
}

/** Addresses and the peers that they were last seen behind. Bounded, and what is not seen for long is forgotten. */
export class LearningTable<P> {
  readonly #max: number;
  readonly #maxAgeMs: number;
  /** By address (macKey); the one that was not seen for the longest time first. */
  readonly #learned = new Map<number, Learned<P>>();

  constructor(options: { readonly max: number; readonly maxAgeMs: number }) {
    this.#max = options.max;
    this.#maxAgeMs = options.maxAgeMs;
  }

  get size(): number {
    return this.#learned.size;
  }

  /** A frame from `mac` came from `peer`. */
  learn(mac: number, peer: P, now = performance.now()): void {
    const known = this.#learned.get(mac);
    if (known) this.#learned.delete(mac);
    else if (this.#learned.size >= this.#max) this.#learned.delete(this.#learned.keys().next().value!);
    const entry = known ?? { peer, seenAt: now };
    entry.peer = peer;
    entry.seenAt = now;
    this.#learned.set(mac, entry);
  }

  /** The peer that `mac` is behind, where that is known. */
  find(mac: number, now = performance.now()): P | undefined {
    const known = this.#learned.get(mac);
    if (!known) return undefined;
    if (now - known.seenAt <= this.#maxAgeMs) return known.peer;
    this.#learned.delete(mac);
    return undefined;
  }
}
