/** Ethernet segments: delivery of frames, limits, and the hub's faults. */
import { describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { broadcastMac, formatMac, parseMac, randomMac } from '../../src/network/ethernet/mac.js';
import type { Port } from '../../src/network/ethernet/segment.js';

const macs = [1, 2, 3].map((last) => Uint8Array.of(2, 0, 0, 0, 0, last));

/** A frame whose payload consists of `payload` bytes with the value `value`. */
function frame(to: Uint8Array, from: Uint8Array, payload: number, value = 0x5a, type = 0x88b5): Uint8Array {
  const bytes = new Uint8Array(14 + payload).fill(value);
  bytes.set(to);
  bytes.set(from, 6);
  bytes.set([type >> 8, type & 0xff], 12);
  return bytes;
}

function station(hub: Hub, mac: Uint8Array, promiscuous = false): { port: Port; got: Uint8Array[] } {
  const got: Uint8Array[] = [];
  return { port: hub.attach({ mac, promiscuous, onFrame: (bytes) => got.push(bytes.slice()) }), got };
}

/** Waits until sent frames are delivered. */
async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}

describe('addresses', () => {
  it('are read and written', () => {
    expect(formatMac(parseMac('02:00:5e:Ff:00:1a')!)).toBe('02:00:5e:ff:00:1a');
    expect(parseMac('02-00-5e-ff-00-1a')).toEqual(parseMac('02:00:5e:ff:00:1a'));
    for (const bad of [
      '',
      '02:00',
      '02:00:5e:ff:00:1',
      '02:00:5e:ff:00:1a:00',
      'zz:00:5e:ff:00:1a',
      '0x:00:00:00:00:00',
    ]) {
      expect(parseMac(bad)).toBeUndefined();
    }
    expect(randomMac()[0]! & 3).toBe(2);
  });
});

describe('a hub', () => {
  it('delivers frames to their receivers, whole and in order', async () => {
    const hub = new Hub({ mtu: 9000 });
    const [a, b, c] = [station(hub, macs[0]!), station(hub, macs[1]!), station(hub, macs[2]!, true)];
    for (let i = 0; i < 1000; i++) expect(a.port.send(frame(macs[1]!, macs[0]!, 46 + i, i))).toBe(true);
    expect(b.got).toHaveLength(0);
    a.port.send(frame(broadcastMac, macs[0]!, 46, 7));
    await settle();
    expect(b.got.map((got) => got.length)).toEqual([...Array.from({ length: 1000 }, (_, i) => 60 + i), 60]);
    expect(b.got[999]).toEqual(frame(macs[1]!, macs[0]!, 46 + 999, 999));
    expect(c.got).toHaveLength(1001);
    expect(a.got).toHaveLength(0);
    expect(hub.counters).toMatchObject({ sent: 1001, received: 1001, badSize: 0, overflow: 0 });
  });

  it('drops frames over the MTU and without a header, and counts them', async () => {
    const hub = new Hub({ mtu: 1500 });
    const [a, b] = [station(hub, macs[0]!), station(hub, macs[1]!)];
    expect(a.port.send(frame(macs[1]!, macs[0]!, 1500))).toBe(true);
    expect(a.port.send(frame(macs[1]!, macs[0]!, 1501))).toBe(false);
    expect(a.port.send(frame(macs[1]!, macs[0]!, 1504, 0, 0x8100))).toBe(true);
    expect(a.port.send(frame(macs[1]!, macs[0]!, 1505, 0, 0x8100))).toBe(false);
    expect(a.port.send(new Uint8Array(13))).toBe(false);
    expect(a.port.send(new Uint8Array(0))).toBe(false);
    await settle();
    expect(b.got).toHaveLength(2);
    expect(hub.counters.badSize).toBe(4);
  });

  it('drops frames beyond the limit of its queue', async () => {
    const hub = new Hub();
    const [a, b] = [station(hub, macs[0]!), station(hub, macs[1]!)];
    let taken = 0;
    for (let i = 0; i < 5000; i++) if (a.port.send(frame(macs[1]!, macs[0]!, 46))) taken++;
    await settle(50);
    expect(taken).toBe(4096);
    expect(b.got).toHaveLength(taken);
    expect(hub.counters.overflow).toBe(5000 - taken);
  });

  it('leaves room for others while two stations answer each other without end', async () => {
    const hub = new Hub();
    let answers = 0;
    const ping: Port = hub.attach({
      mac: macs[0]!,
      onFrame: () => void (answers++, ping.send(frame(macs[1]!, macs[0]!, 46))),
    });
    const pong: Port = hub.attach({ mac: macs[1]!, onFrame: () => void pong.send(frame(macs[0]!, macs[1]!, 46)) });
    ping.send(frame(macs[1]!, macs[0]!, 46));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(answers).toBeGreaterThan(1);
    await hub.close();
  });

  it('delivers nothing after a port or the segment is closed', async () => {
    const hub = new Hub();
    const [a, b] = [station(hub, macs[0]!), station(hub, macs[1]!)];
    a.port.send(frame(macs[1]!, macs[0]!, 46));
    b.port.close();
    b.port.close();
    expect(b.port.send(frame(macs[0]!, macs[1]!, 46))).toBe(false);
    await settle();
    expect([...a.got, ...b.got]).toHaveLength(0);
    await Promise.all([hub.close(), hub.close()]);
    expect(a.port.send(frame(macs[1]!, macs[0]!, 46))).toBe(false);
    expect(() => station(hub, macs[2]!)).toThrow(FarbusError);
  });

  it('refuses an impossible MTU and addresses', () => {
    for (const mtu of [0, 67, 70_000, 1500.5, Number.NaN]) expect(() => new Hub({ mtu })).toThrow(FarbusError);
    const hub = new Hub();
    for (const mac of [broadcastMac, new Uint8Array(5)]) {
      expect(() => hub.attach({ mac, onFrame: () => undefined })).toThrow(FarbusError);
    }
  });

  it('loses, repeats and reorders by chances that a seed reproduces, and can be cut', async () => {
    const run = async (): Promise<number[]> => {
      const hub = new Hub({ faults: { loss: 0.1, duplication: 0.05, reordering: 0.2, reorderMs: 1, seed: 7 } });
      const [a, b] = [station(hub, macs[0]!), station(hub, macs[1]!)];
      for (let i = 0; i < 200; i++) a.port.send(frame(macs[1]!, macs[0]!, 46, i));
      await new Promise((resolve) => setTimeout(resolve, 30));
      hub.cut = true;
      a.port.send(frame(macs[1]!, macs[0]!, 46, 201));
      await settle();
      hub.cut = false;
      await hub.close();
      return b.got.map((got) => got[20]!);
    };
    const [first, second] = [await run(), await run()];
    expect([...first].sort()).toEqual([...second].sort());
    expect(new Set(first).size).toBeLessThan(200);
    expect(first.length).toBeGreaterThan(new Set(first).size);
    expect(first).not.toEqual([...first].sort((x, y) => x - y));
    expect(first).not.toContain(201);
  });
});
