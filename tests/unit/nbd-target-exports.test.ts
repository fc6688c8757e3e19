import { afterEach, describe, expect, it, vi } from 'vitest';
import { silent, type LogLevel } from '../../src/base/log.js';
import { drain } from '../../src/export/drain.js';
import { exportUri, parseListenAddress } from '../../src/export/nbd/address.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { GateDevice } from './nbd-target-gate.js';
import { infoData, join, optionBytes, requestBytes, TestStream } from './nbd-target-peer.js';
import { u32 } from '../support/numbers.js';

const disk = () => new MemoryDevice(1 << 20);

describe('exports', () => {
  it('are found by name; without a name, the first or the marked one', () => {
    const exports = new Exports();
    const a = exports.add({ name: 'a', device: disk() });
    expect(exports.find('')).toBe(a);
    const b = exports.add({ name: 'b', device: disk(), isDefault: true });
    exports.add({ name: 'c', device: disk(), isDefault: true });
    expect(exports.find('')).toBe(b);
    expect(exports.find('a')).toBe(a);
    expect(exports.find('d')).toBeUndefined();
    expect([...exports.list()].map(({ name }) => name)).toEqual(['a', 'b', 'c']);
  });

  it('have names of their own', () => {
    const exports = new Exports();
    exports.add({ name: 'a', device: disk() });
    for (const name of ['a', '', 'x\0', 'ü'.repeat(2049)]) {
      expect(() => exports.add({ name, device: disk() })).toThrow(/name/);
    }
    expect(() => exports.add({ name: 'b', device: disk(), description: 'x'.repeat(4097) })).toThrow(/description/);
  });

  it('close all devices, even if one fails', async () => {
    const exports = new Exports();
    const [good, bad] = [disk(), disk()];
    vi.spyOn(bad, 'close').mockRejectedValue(new Error('stuck'));
    const close = vi.spyOn(good, 'close');
    exports.add({ name: 'bad', device: bad });
    exports.add({ name: 'good', device: good });
    await expect(exports.close()).rejects.toThrow('stuck');
    expect(close).toHaveBeenCalled();
  });
});

describe('addresses to listen on', () => {
  it.each([
    ['nbd://127.0.0.1:1234', { host: '127.0.0.1', port: 1234 }, 'nbd://127.0.0.1:1234/x'],
    ['nbd://127.0.0.1', { host: '127.0.0.1', port: 10809 }, 'nbd://127.0.0.1/x'],
    ['nbd://[::1]:0/', { host: '::1', port: 0 }, 'nbd://[::1]:0/x'],
    ['nbd+unix:///?socket=/run/a%20b', { path: '/run/a b' }, 'nbd+unix:///x?socket=/run/a%20b'],
  ])('%s', (text, address, uri) => {
    expect(parseListenAddress(text)).toEqual(address);
    expect(exportUri(address, 'x')).toBe(uri);
  });

  it.each(['', 'x', 'nbd', 'nbd://h:70000', 'nbd://h/name', 'nbd+unix:///', 'nbd+unix:///?socket=%00a', 'nbds://h'])(
    'not %j',
    (text) => {
      expect(() => parseListenAddress(text)).toThrow(/^--listen /);
    },
  );
});

describe('a server', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A client that has entered transmission and sent one write. */
  function writer(server: Server): TestStream {
    const stream = new TestStream();
    server.accept(stream);
    const write = requestBytes({ command: 1, data: new Uint8Array(512) });
    stream.events!.data(join([u32(3), optionBytes(7, infoData('', [])), write]));
    return stream;
  }

  it('drains: listeners, connections, devices, in this order', async () => {
    const device = new GateDevice(1 << 20);
    const exports = new Exports();
    exports.add({ name: 'disk', device });
    const server = new Server(exports, silent);
    const order: string[] = [];
    server.add({ close: async () => void order.push('listener') });
    const stream = writer(server);
    await device.arrived(1);
    expect(server.connections).toBe(1);
    vi.spyOn(device, 'close').mockImplementation(async () => void order.push('device'));
    const drained = server.drain();
    await new Promise((resolve) => setImmediate(resolve));
    order.push('released');
    device.release();
    await drained;
    expect(order).toEqual(['listener', 'released', 'device']);
    expect(stream.ended).toBe(true);
    expect(server.connections).toBe(0);
    const late = new TestStream();
    server.accept(late);
    expect(late.destroyed).toBe(true);
  });

  it('ends adapters of every protocol together, and then the devices', async () => {
    const exports = new Exports();
    const device = disk();
    exports.add({ name: 'disk', device });
    const order: string[] = [];
    vi.spyOn(device, 'close').mockImplementation(async () => void order.push('device'));
    let release: () => void = () => undefined;
    const busy = new Promise<void>((resolve) => (release = resolve));
    const segment = { close: () => busy.then(() => void order.push('segment')) };
    const connections = { close: async () => void order.push('connections'), destroy: () => order.push('destroyed') };
    const drained = drain(exports, [segment, connections], silent);
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual(['connections']);
    release();
    await drained;
    expect(order).toEqual(['connections', 'segment', 'destroyed', 'device']);
  });

  it('limits its wait for a listener, a client and a device', async () => {
    vi.useFakeTimers();
    const device = new GateDevice(1 << 20);
    const exports = new Exports();
    exports.add({ name: 'disk', device });
    const said: [LogLevel, string][] = [];
    const server = new Server(exports, { log: (level, message) => said.push([level, message]) });
    server.add({ close: () => new Promise<void>(() => undefined) });
    const stream = writer(server);
    await device.arrived(1);
    const drained = server.drain();
    // docs/serve.md: 15 seconds, of which 2 are reserved for other things that a process must
    // finish.
    await vi.advanceTimersByTimeAsync(13_000);
    await drained;
    expect(stream.destroyed).toBe(true);
    expect(said).toContainEqual(['warn', expect.stringContaining('does not finish')]);
    device.release();
  });

  it('counts', async () => {
    const exports = new Exports();
    const { counters } = exports.add({ name: 'disk', device: disk() });
    const server = new Server(exports, silent);
    const stream = writer(server);
    stream.events!.data(join([requestBytes({ command: 0, length: 1024 }), requestBytes({ command: 99 })]));
    // The size of the export is refreshed before transmission begins.
    await vi.waitUntil(() => counters.requests === 3);
    await server.drain();
    expect(counters).toEqual({ connections: 1, requests: 3, errors: 1, bytesRead: 1024, bytesWritten: 512 });
  });
});
