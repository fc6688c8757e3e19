/**
 * Interfaces of the host as segments: packet sockets on a veth pair and a TAP device, in a private
 * network namespace.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { formatMac } from '../../src/network/ethernet/mac.js';
import { openPacket } from '../../src/network/ethernet/packet.node.js';
import type { Port, Segment } from '../../src/network/ethernet/segment.js';
import { openTap } from '../../src/network/ethernet/tap.node.js';
import { enterNamespace, ip, vethPair } from '../support/namespace.js';
import { until } from '../support/event-loop.js';

const type = 0x88b5;
const other = Uint8Array.of(2, 0, 0, 0, 0, 9);

function frame(to: Uint8Array, from: Uint8Array, payload: number, value = 0x5a): Uint8Array {
  const bytes = new Uint8Array(14 + payload).fill(value);
  bytes.set(to);
  bytes.set(from, 6);
  bytes.set([type >> 8, type & 0xff], 12);
  return bytes;
}

const open: Segment[] = [];
function keep(segment: Segment): Segment {
  open.push(segment);
  return segment;
}
afterEach(async () => {
  for (const segment of open.splice(0)) await segment.close();
});

function station(
  segment: Segment,
  options: { mac?: Uint8Array; promiscuous?: boolean } = {},
): { port: Port; got: Uint8Array[] } {
  const got: Uint8Array[] = [];
  return { port: segment.attach({ ...options, onFrame: (bytes) => got.push(bytes.slice()) }), got };
}

describe.skipIf(!enterNamespace())('an interface of the host', () => {
  it('carries many frames both ways, whole and in order', async () => {
    vethPair('va', 'vb', 9000);
    const a = station(keep(openPacket('va', { etherType: type })));
    const b = station(keep(openPacket('vb', { etherType: type })));
    expect(a.port.segment.mtu).toBe(9000);
    expect(ip('link', 'show', 'va')).toContain(formatMac(a.port.mac));
    for (let i = 0; i < 1000; i++) a.port.send(frame(b.port.mac, a.port.mac, 46 + i, i));
    b.port.send(frame(a.port.mac, b.port.mac, 9000));
    await until(() => b.got.length >= 1000 && a.got.length >= 1);
    b.got.forEach((got, i) => expect(got).toEqual(frame(b.port.mac, a.port.mac, 46 + i, i)));
    expect(a.got[0]).toEqual(frame(a.port.mac, b.port.mac, 9000));
    expect(a.port.send(frame(b.port.mac, a.port.mac, 9001))).toBe(false);
  });

  it('sends frames built in its own memory among other frames, and does not use that memory after closing', async () => {
    vethPair('ve', 'vg', 9000);
    const e = station(keep(openPacket('ve', { etherType: type })));
    const f = station(keep(openPacket('vg', { etherType: type })));
    const count = 300;
    for (let i = 0; i < count; i++) {
      const bytes = frame(f.port.mac, e.port.mac, 8000 + i, i);
      const room = e.port.room();
      room.set(bytes);
      if (i % 3 === 0) e.port.send(bytes);
      else e.port.send(room.subarray(0, bytes.length));
    }
    await until(() => f.got.length >= count);
    f.got.forEach((got, i) => expect(got).toEqual(frame(f.port.mac, e.port.mac, 8000 + i, i)));
    await e.port.segment.close();
    e.port.room().fill(1);
    expect(e.port.send(frame(f.port.mac, e.port.mac, 46))).toBe(false);
  });

  it('hears frames for a port with an address of its own, and not its own frames', async () => {
    vethPair('vc', 'vd', 1500);
    const c = station(keep(openPacket('vc')));
    const d = station(keep(openPacket('vd')), { mac: other });
    c.port.send(frame(other, c.port.mac, 100));
    c.port.send(frame(Uint8Array.of(2, 0, 0, 0, 0, 8), c.port.mac, 100));
    d.port.send(frame(c.port.mac, other, 100));
    await until(() => d.got.length > 0 && c.got.length > 0);
    expect(d.got).toEqual([frame(other, c.port.mac, 100)]);
    expect(c.got).toEqual([frame(c.port.mac, other, 100)]);
  });

  it('is used again after it was down', async () => {
    vethPair('vy', 'vz', 1500);
    const e = station(keep(openPacket('vy', { etherType: type })));
    const f = station(keep(openPacket('vz', { etherType: type })));
    ip('link', 'set', 'vz', 'down');
    await new Promise((resolve) => setTimeout(resolve, 50));
    ip('link', 'set', 'vz', 'up');
    await until(() => {
      e.port.send(frame(f.port.mac, e.port.mac, 46));
      return f.got.length > 0;
    });
  });

  it('that does not exist, or is not an interface, is refused in a line', () => {
    expect(() => openPacket('nothere')).toThrow(/no such interface/);
    expect(() => openPacket('a name')).toThrow(FarbusError);
    expect(() => openTap('far/too/long/for/an/interface')).toThrow(FarbusError);
  });
});

describe.skipIf(process.getuid?.() !== 0)('a TAP device', () => {
  it('connects us with the host: it asks for our address and answers to ours', async () => {
    const tap = keep(openTap('ftap0', { mtu: 9000 }));
    expect(tap.mtu).toBe(9000);
    const us = station(tap, { mac: other });
    ip('addr', 'add', '192.0.2.1/24', 'dev', 'ftap0');
    // An ARP request (RFC 826) for the host's address, which its kernel answers.
    const request = frame(new Uint8Array(6).fill(0xff), other, 46, 0);
    request.set([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...other, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1], 12);
    const isReply = (got: Uint8Array): boolean => got[12] === 8 && got[13] === 6 && got[21] === 2 && got[31] === 1;
    await until(() => {
      us.port.send(request);
      return us.got.some(isReply);
    });
    expect(us.got.find(isReply)!.subarray(0, 6)).toEqual(other);
    expect(() => openTap('ftap0')).toThrow(/another program/);
  });
});
