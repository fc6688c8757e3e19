/**
 * A VXLAN segment over UDP (RFC 7348): frames of one virtual network between this process and peers that are listed, such
 * as Linux's own `vxlan` devices. No multicast: what is for all, or for an address that was not seen yet, goes to every
 * peer. Packets of others, and of other networks, are dropped. There is no encryption, and UDP's source addresses can be
 * forged: for networks that you trust.
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
  /** The virtual network's number, 0 to 2^24 - 1. */
  readonly vni: number;
  /** An address of this computer. Default: all IPv4 addresses. Port default: 4789. */
  readonly local?: { readonly host?: string | undefined; readonly port?: number | undefined } | undefined;
  /** The other ends, by IP address. Port default: 4789. */
  readonly peers: readonly { readonly host: string; readonly port?: number | undefined }[];
  /** Of the frames within. Default 1450, which a network with an MTU of 1500 carries whole. */
  readonly mtu?: number | undefined;
}

const maxPeers = 1024;
/** Addresses that are remembered, and for how long in ms: Linux's defaults are of that order. */
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
  /** What packets are made in where the socket has no memory for them. */
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

  /** Behind where the header will be. */
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
    // Section 5: the source port is chosen by what is within, so only the address says who it is.
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

/** An address as it compares: IPv4 within IPv6 is IPv4. */
function keyOf(host: string): string {
  return host
    .toLowerCase()
    .replace(/^::ffff:(?=\d+\.)/, '')
    .replace(/%.*$/, '');
}
