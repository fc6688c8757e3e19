/** VXLAN: header, learning table, and segments that reach each other over loopback. */
import { createSocket } from 'node:dgram';
import { afterEach, describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { broadcastMac } from '../../src/network/ethernet/mac.js';
import type { Port, Segment } from '../../src/network/ethernet/segment.js';
import { openUdp } from '../../src/network/ethernet/udp.node.js';
import { LearningTable, putVxlanHeader, vniOf } from '../../src/network/ethernet/vxlan.js';
import { openVxlan } from '../../src/network/ethernet/vxlan.node.js';
import { until } from '../support/event-loop.js';

const open: Segment[] = [];
afterEach(async () => {
  for (const segment of open.splice(0)) await segment.close();
});
function keep(segment: Segment): Segment {
  open.push(segment);
  return segment;
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}

function frame(to: Uint8Array, from: Uint8Array, payload: number, value = 1): Uint8Array {
  const bytes = new Uint8Array(14 + payload).fill(value);
  bytes.set(to);
  bytes.set(from, 6);
  bytes.set([0x88, 0xb5], 12);
  return bytes;
}

function station(segment: Segment): { port: Port; got: Uint8Array[] } {
  const got: Uint8Array[] = [];
  return { port: segment.attach({ onFrame: (bytes) => got.push(bytes.slice()) }), got };
}

describe('VXLAN packets', () => {
  it('have the header of RFC 7348 section 5', () => {
    const packet = new Uint8Array(8).fill(0xff);
    putVxlanHeader(packet, 0x123456);
    expect([...packet]).toEqual([8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
    expect(vniOf(packet)).toBe(0x123456);
    packet[0] = 0xf7;
    expect(vniOf(packet)).toBeUndefined();
    expect(vniOf(packet.subarray(0, 7))).toBeUndefined();
  });

  it('teach where addresses are: a bounded number, for a limited time', () => {
    const table = new LearningTable<string>({ max: 3, maxAgeMs: 100 });
    for (let mac = 1; mac <= 3; mac++) table.learn(mac, `peer${mac}`, mac);
    table.learn(1, 'moved', 10);
    table.learn(4, 'peer4', 11);
    expect(table.size).toBe(3);
    expect(table.find(2, 12)).toBeUndefined();
    expect(table.find(1, 12)).toBe('moved');
    expect(table.find(1, 111)).toBeUndefined();
    expect(table.find(4, 111)).toBe('peer4');
  });
});

describe('a VXLAN segment', () => {
  it('floods frames for all or unknown addresses, then sends to the learned peer; drops frames of other networks', async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];
    const make = async (own: number, vni = 7): Promise<Segment> => {
      const peers = [0, 1, 2].filter((one) => one !== own).map((one) => ({ host: hosts[one]!, port: ports[one]! }));
      return keep(await openVxlan({ vni, local: { host: hosts[own]!, port: ports[own]! }, peers, mtu: 9000 }));
    };
    const [a, b, c] = [station(await make(0)), station(await make(1)), station(await make(2))];
    a.port.send(frame(broadcastMac, a.port.mac, 9000));
    await until(() => b.got.length === 1 && c.got.length === 1);
    expect(b.got[0]).toEqual(frame(broadcastMac, a.port.mac, 9000));
    // Now b and c know where a is. a does not know where b is, so its frame goes to both segments.
    b.port.send(frame(a.port.mac, b.port.mac, 46));
    await until(() => a.got.length === 1);
    a.port.send(frame(b.port.mac, a.port.mac, 46, 2));
    await until(() => b.got.length === 2);
    expect(c.port.segment.counters.received).toBe(1);

    const stranger = createSocket('udp4');
    await new Promise<void>((resolve) => stranger.bind(0, '127.0.0.9', resolve));
    const good = new Uint8Array(8 + 60);
    putVxlanHeader(good, 7);
    good.set(frame(b.port.mac, a.port.mac, 46), 8);
    stranger.send(good, ports[1]!, hosts[1]!);
    await until(() => b.port.segment.counters.malformed === 1);
    stranger.close();
    expect(b.got).toHaveLength(2);
  });

  it('refuses malformed networks and addresses, and a port in use', async () => {
    await expect(openVxlan({ vni: 2 ** 24, peers: [] })).rejects.toThrow(FarbusError);
    await expect(openVxlan({ vni: 1, peers: [{ host: 'example.org' }] })).rejects.toThrow(/no IP address/);
    const port = await freePort();
    keep(await openVxlan({ vni: 1, local: { host: '127.0.0.1', port }, peers: [] }));
    await expect(openVxlan({ vni: 1, local: { host: '127.0.0.1', port }, peers: [] })).rejects.toThrow(/EADDRINUSE/);
  });
});

describe('a UDP segment', () => {
  const at = (port: number): { host: string; port: number } => ({ host: '127.0.0.1', port });
  const pair = async () => {
    const [x, y] = [await freePort(), await freePort()];
    const a = station(keep(await openUdp({ local: at(x), remote: at(y), mtu: 9000 })));
    const b = station(keep(await openUdp({ local: at(y), remote: at(x), mtu: 9000 })));
    return { a, b, y };
  };
  afterEach(() => delete process.env['FARBUS_NO_KOFFI']);

  it.each(['', '1'])('carries one frame per datagram, from its peer only (FARBUS_NO_KOFFI=%j)', async (without) => {
    process.env['FARBUS_NO_KOFFI'] = without;
    const { a, b, y } = await pair();
    a.port.send(frame(b.port.mac, a.port.mac, 9000));
    await until(() => b.got.length === 1);
    expect(b.got[0]).toEqual(frame(b.port.mac, a.port.mac, 9000));
    const stranger = createSocket('udp4');
    stranger.send(frame(b.port.mac, a.port.mac, 46), y, '127.0.0.1');
    await until(() => b.port.segment.counters.malformed === 1);
    stranger.send(new Uint8Array(20_000), y, '127.0.0.1');
    await until(() => b.port.segment.counters.malformed === 2);
    stranger.close();
    expect(b.got).toHaveLength(1);
  });

  it('carries many frames at once, in order, also those built in its own memory', async () => {
    const { a, b } = await pair();
    const count = 100;
    for (let i = 0; i < count; i++) {
      const bytes = frame(b.port.mac, a.port.mac, 46 + i, i);
      if (i % 2) {
        a.port.send(bytes);
      } else {
        const room = a.port.room();
        room.set(bytes);
        a.port.send(room.subarray(0, bytes.length));
      }
    }
    await until(() => b.got.length === count);
    b.got.forEach((got, i) => expect(got).toEqual(frame(b.port.mac, a.port.mac, 46 + i, i)));
    await a.port.segment.close();
    a.port.room().fill(1);
    expect(a.port.send(frame(b.port.mac, a.port.mac, 46))).toBe(false);
  });
});
