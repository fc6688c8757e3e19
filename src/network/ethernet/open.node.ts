/**
 * Opens Ethernet segments given by a text, as the command line and site files have it. Syntax:
 * docs/ethernet.md.
 */
import { isIP } from 'node:net';
import { usageError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { openPacket } from './packet.node.js';
import { maxMtu, minMtu, type Segment } from './segment.js';
import { openTap } from './tap.node.js';
import type { UdpAddress } from './udp-address.js';
import { openUdp } from './udp.node.js';
import { openVxlan } from './vxlan.node.js';
import { vxlanPort } from './vxlan.js';

/** Syntax of a SEGMENT, for help: forms with their descriptions. */
export const segmentForms: readonly (readonly [form: string, about: string])[] = [
  ['IFACE', 'an Ethernet interface of this computer; needs root or cap_net_raw'],
  ['tap:NAME[?mtu=N]', 'a TAP device, which the host has as an interface; needs cap_net_admin'],
  ['vxlan:VNI/PEER[:PORT][+PEER...][?local=IP[:PORT]&mtu=N]', 'VXLAN over UDP; peers are given by their IP addresses'],
  ['udp:IP:PORT/PEER:PORT[?mtu=N]', "one frame in each UDP datagram, as QEMU's -netdev dgram"],
];

/** Options of {@link openSegment}. */
export interface SegmentOptions {
  /**
   * Only receive frames of this type, which avoids the work for all other frames of an interface.
   */
  readonly etherType?: number;
  /** Receives warnings. Default: nothing is logged. */
  readonly log?: Logger;
}

/** Opens a segment. Rejects with a FarbusError. */
export async function openSegment(text: string, options: SegmentOptions = {}): Promise<Segment> {
  const [, kind = 'packet', where = ''] = /^(?:(packet|tap|vxlan|udp):)?(.*)$/s.exec(text)!;
  const mark = where.indexOf('?');
  const path = mark < 0 ? where : where.slice(0, mark);
  const query = parameters(text, mark < 0 ? '' : where.slice(mark + 1), kind);
  const { log } = options;
  switch (kind) {
    case 'tap':
      return openTap(path, { mtu: query.mtu, log });
    case 'vxlan': {
      const [, vni = '', peers] = /^(\d+)\/(.+)$/s.exec(path) ?? [];
      if (!peers) throw usageError(`${text}: write vxlan:VNI/PEER, for example vxlan:42/192.0.2.7`);
      const list = peers.split('+').map((peer) => address(text, peer, vxlanPort));
      const local = query.local === undefined ? undefined : address(text, query.local, vxlanPort);
      return openVxlan({ vni: Number(vni), peers: list, local, mtu: query.mtu });
    }
    case 'udp': {
      const [local, remote, ...more] = path.split('/');
      if (!local || !remote || more.length > 0) throw usageError(`${text}: write udp:IP:PORT/PEER:PORT`);
      return openUdp({ local: address(text, local), remote: address(text, remote), mtu: query.mtu });
    }
    default:
      return openPacket(path, { etherType: options.etherType, log });
  }
}

function parameters(text: string, query: string, kind: string): { mtu?: number; local?: string } {
  const known = kind === 'vxlan' ? ['mtu', 'local'] : kind === 'packet' ? [] : ['mtu'];
  const found: { mtu?: number; local?: string } = {};
  for (const part of query === '' ? [] : query.split('&')) {
    const [key = '', value = ''] = part.split(/=(.*)/s);
    if (!known.includes(key)) throw usageError(`${text}: ${JSON.stringify(key)} is not known after the ?`);
    if (key === 'local') found.local = value;
    else if (/^\d+$/.test(value) && Number(value) >= minMtu && Number(value) <= maxMtu) found.mtu = Number(value);
    else throw usageError(`${text}: mtu is a number from ${minMtu} to ${maxMtu}`);
  }
  return found;
}

/**
 * Parses "192.0.2.1:4789" or "[2001:db8::1]:4789". The port may be left out if there is a default.
 */
function address(text: string, part: string, defaultPort?: number): UdpAddress {
  const [, literal, plain, digits] = /^(?:\[([^\]]*)\]|([^[\]:]*))(?::(\d{1,5}))?$/.exec(part) ?? [];
  const host = literal ?? plain ?? '';
  const port = digits === undefined ? defaultPort : Number(digits);
  if (isIP(host) === 0 || (literal !== undefined && isIP(host) !== 6)) {
    throw usageError(`${text}: ${part} has no IP address: write 192.0.2.1:PORT or [2001:db8::1]:PORT`);
  }
  if (port === undefined || port > 65_535) throw usageError(`${text}: ${part} needs a port up to 65535`);
  return { host, port };
}
