/**
 * A VXLAN segment over UDP (RFC 7348): carries the frames of one virtual network between this
 * process and a list of peers, such as Linux's own `vxlan` devices.
 *
 * A frame for a group, or for an address that was not seen yet, is sent to every peer. Packets from
 * other senders and of other networks are dropped.
 *
 * Left out: IP multicast, and encryption. UDP source addresses can be forged, so this is only for
 * trusted networks.
 */
import { isIP } from 'node:net';
import { FarbusError } from '../../base/errors.js';
import { BaseSegment } from './base-segment.js';
import { isGroup, macKey } from './mac.js';
import { frameHeaderSize, type Segment } from './segment.js';
import type { UdpAddress, UdpSender } from './udp-address.js';
import { bindUdp, type UdpPort } from './udp.node.js';
import { LearningTable, maxVni, putVxlanHeader, vniOf, vxlanHeaderSize, vxlanPort } from './vxlan.js';

export interface VxlanOptions {
  /** VXLAN network identifier, 0 to 2^24 - 1. */
  readonly vni: number;
  /** Local address and port. Default: all IPv4 addresses, port 4789. */
  readonly local?: { readonly host?: string | undefined; readonly port?: number | undefined } | undefined;
  /** IP addresses and ports of the peers. Default port 4789. */
  readonly peers: readonly { readonly host: string; readonly port?: number | undefined }[];
  /**
   * Largest payload of an inner frame in bytes. Default 1450, so that packets fit a network with an
   * MTU of 1500.
   */
  readonly mtu?: number | undefined;
}

const maxPeers = 1024;
/**
 * Largest number of learned addresses, and their lifetime in ms: of the order of Linux's defaults.
 */
const learning = { max: 65_536, maxAgeMs: 300_000 };

/** Opens the segment. Rejects with a FarbusError. */
export async function openVxlan(options: VxlanOptions): Promise<Segment> {
  const segment = new VxlanSegment(options);
  await segment.open();
  return segment;
}

class VxlanSegment extends BaseSegment {
  readonly #vni: number;
  readonly #local: UdpAddress;
  readonly #peers = new Map<string, UdpAddress>();
  readonly #learned = new LearningTable<UdpAddress>(learning);
  /** Memory to build packets in if the socket provides none. */
  readonly #packet: Uint8Array;
  #port: UdpPort | undefined;

  constructor({ vni, local = {}, peers, mtu = 1450 }: VxlanOptions) {
    super(`vxlan ${vni}`, mtu);
    if (!Number.isInteger(vni) || vni < 0 || vni > maxVni) {
      throw new FarbusError(`${vni} is no VXLAN network: give 0 to ${maxVni}`, { exitCode: 2 });
    }
    if (peers.length > maxPeers) throw new FarbusError(`${this.name}: more than ${maxPeers} peers`);
    for (const { host, port = vxlanPort } of peers) {
      if (isIP(host) === 0) throw new FarbusError(`${this.name}: peer ${host} is no IP address`, { exitCode: 2 });
      this.#peers.set(keyOf(host), { host, port });
    }
    this.#vni = vni;
    this.#local = { host: local.host ?? '0.0.0.0', port: local.port ?? vxlanPort };
    this.#packet = new Uint8Array(vxlanHeaderSize + this.maxFrame);
  }

  async open(): Promise<void> {
    this.#port = await bindUdp({
      local: this.#local,
      size: this.#packet.length,
      received: (packet, from) => this.#received(packet, from),
      dropped: (count) => (this.counters.overflow += count),
    });
  }

  /** The frame is built behind the space for the VXLAN header. */
  protected override room(): Uint8Array {
    return this.#memory().subarray(vxlanHeaderSize);
  }

  protected transmit(frame: Uint8Array): boolean {
    const memory = this.#memory();
    const made = frame.buffer === memory.buffer && frame.byteOffset === memory.byteOffset + vxlanHeaderSize;
    if (!made) memory.set(frame, vxlanHeaderSize);
    putVxlanHeader(memory, this.#vni);
    const packet = memory.subarray(0, vxlanHeaderSize + frame.length);
    const known = isGroup(frame) ? undefined : this.#learned.find(macKey(frame));
    if (known) return this.#send(packet, known);
    let sent = true;
    for (const peer of this.#peers.values()) sent = this.#send(packet, peer) && sent;
    return sent;
  }

  protected async release(): Promise<void> {
    await this.#port?.close();
  }

  #memory(): Uint8Array {
    return this.#port?.room() ?? this.#packet;
  }

  #send(packet: Uint8Array, to: UdpAddress): boolean {
    if (this.#port!.send(packet, to)) return true;
    this.counters.overflow++;
    return false;
  }

  #received(packet: Uint8Array, from: UdpSender): void {
    // Section 5: the source port depends on the inner frame, so only the address identifies the
    // peer.
    const peer = this.#peers.get(keyOf(from.address));
    const frame = packet.subarray(vxlanHeaderSize);
    if (!peer || vniOf(packet) !== this.#vni || frame.length < frameHeaderSize) {
      this.counters.malformed++;
      return;
    }
    if (!isGroup(frame, 6)) this.#learned.learn(macKey(frame, 6), peer);
    this.receive(frame);
  }
}

/**
 * Normalises an address for comparison: an IPv4-mapped IPv6 address becomes IPv4, a zone is
 * removed.
 */
function keyOf(host: string): string {
  return host
    .toLowerCase()
    .replace(/^::ffff:(?=\d+\.)/, '')
    .replace(/%.*$/, '');
}
