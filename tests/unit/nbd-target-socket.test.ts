/** Sockets as byte streams, with real sockets. */
import { Deadline } from '../../src/base/deadline.js';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { eager, EagerStream } from '../../src/network/eager/stream.node.js';
import { dialSocket, type Releasable, type SocketAddress } from '../../src/network/socket.node.js';
import { listenOn, type SocketListener } from '../../src/network/listen.node.js';
import type { ByteStream, StreamEvents } from '../../src/network/stream.js';
import { tempPath } from '../support/temp.js';

const signal = () => new Deadline(30_000).signal;

class Recorder implements StreamEvents {
  bytes = 0;
  drains = 0;
  isClosed = false;
  error: Error | undefined;
  changed: () => void = () => undefined;
  data(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    this.changed();
  }
  drain(): void {
    this.drains++;
    this.changed();
  }
  closed(error?: Error): void {
    this.isClosed = true;
    this.error = error;
    this.changed();
  }
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.changed = resolve));
  }
}

describe.each([
  ['tcp', ''],
  ['unix', ''],
  ['tcp', '1'],
  ['unix', '1'],
])('a socket stream over %s (FARBUS_NO_EAGER=%j)', (transport, off) => {
  beforeEach(() => void vi.stubEnv('FARBUS_NO_EAGER', off));
  const listeners: SocketListener[] = [];
  const streams: ByteStream[] = [];
  afterEach(async () => {
    vi.unstubAllEnvs();
    for (const stream of streams.splice(0)) stream.destroy();
    for (const listener of listeners.splice(0)) await listener.close();
  });

  /** A connection: its dialled end and its accepted end. */
  async function pair(): Promise<[ByteStream & Releasable, ByteStream]> {
    const at: SocketAddress = transport === 'tcp' ? { host: '127.0.0.1', port: 0 } : { path: tempPath('s') };
    let accepted: (stream: ByteStream) => void = () => undefined;
    const other = new Promise<ByteStream>((resolve) => (accepted = resolve));
    const listener = await listenOn(
      at,
      (stream) => accepted(stream),
      () => undefined,
    );
    listeners.push(listener);
    const dialled = eager(await dialSocket(listener.at, signal()));
    const pair: [ByteStream & Releasable, ByteStream] = [dialled, await other];
    for (const end of pair) expect(end instanceof EagerStream).toBe(off === '');
    streams.push(...pair);
    return pair;
  }

  it('carries bytes both ways and ends cleanly', async () => {
    const [near, far] = await pair();
    const [a, b] = [new Recorder(), new Recorder()];
    near.attach(a);
    far.attach(b);
    near.write([new Uint8Array(3), new Uint8Array(5_000_000), new Uint8Array(1)]);
    far.write([new Uint8Array(7)]);
    await b.until(() => b.bytes === 5_000_004);
    await a.until(() => a.bytes === 7);
    near.end();
    await b.until(() => b.isClosed);
    await a.until(() => a.isClosed);
    expect([a.error, b.error]).toEqual([undefined, undefined]);
  });

  it('keeps bytes in order, however they are split and however slow the reader', async () => {
    const [near, far] = await pair();
    const sizes = [...Array<number[]>(40)].flatMap((_, i) => [
      16,
      200,
      257,
      i,
      5000 * (i % 4),
      16,
      16,
      300_000 * (i % 2),
    ]);
    const sent = sizes.map((size, i) => new Uint8Array(size).map((_, at) => (at * 7 + i) & 0xff));
    const got: Uint8Array[] = [];
    const b = new Recorder();
    near.attach({
      data: (chunk) => {
        got.push(chunk.slice());
        b.data(chunk);
        if (got.length % 3 === 0) {
          near.pause();
          setTimeout(() => near.resume(), 1);
        }
      },
      drain: () => undefined,
      closed: () => undefined,
    });
    const a = new Recorder();
    far.attach(a);
    for (let at = 0; at < sent.length; at += 9) {
      const drains = a.drains;
      if (!far.write(sent.slice(at, at + 9))) await a.until(() => a.drains > drains);
    }
    const total = sizes.reduce((sum, size) => sum + size, 0);
    await b.until(() => b.bytes === total);
    expect(Buffer.compare(Buffer.concat(got), Buffer.concat(sent))).toBe(0);
  });

  it('serves other clients while one sends requests without pause', async () => {
    const [near, far] = await pair();
    const [busyNear, busyFar] = await pair();
    const echo = (stream: ByteStream): Recorder => {
      const recorder = new Recorder();
      stream.attach({
        data: (chunk) => {
          recorder.data(chunk);
          stream.write([chunk.slice()]);
        },
        drain: () => undefined,
        closed: () => undefined,
      });
      return recorder;
    };
    // Two streams that answer each other immediately, so that a socket is never idle.
    const busy = echo(busyFar);
    echo(busyNear);
    busyNear.write([new Uint8Array(100)]);
    await busy.until(() => busy.bytes >= 10_000);
    const [a, b] = [new Recorder(), new Recorder()];
    near.attach(a);
    far.attach(b);
    near.write([new Uint8Array(5)]);
    await b.until(() => b.bytes === 5);
    const before = busy.bytes;
    await busy.until(() => busy.bytes > before);
  });

  it('reports an end only when the peer has taken everything', async () => {
    const [near, far] = await pair();
    const [a, b] = [new Recorder(), new Recorder()];
    far.attach(b);
    let sent = 0;
    // Write small chunks until one does not fit: then fewer bytes wait than the socket's own
    // high-water mark.
    while (far.write([new Uint8Array(1000)])) sent += 1000;
    sent += 1000;
    expect(far.pending).toBeGreaterThan(0);
    near.attach(a);
    await a.until(() => a.bytes === sent);
    await b.until(() => b.drains === 1);
    expect(far.pending).toBe(0);
  });

  it('reads nothing before it is attached or while it is paused', async () => {
    const [near, far] = await pair();
    const [a, b] = [new Recorder(), new Recorder()];
    near.attach(a);
    while (near.write([new Uint8Array(1 << 20)]));
    expect(near.pending).toBeGreaterThan(0);
    far.pause();
    far.attach(b);
    await new Promise((resolve) => setImmediate(resolve));
    expect(b.bytes).toBe(0);
    far.resume();
    await a.until(() => a.drains === 1);
    expect(b.bytes).toBeGreaterThan(0);
    far.pause();
    const seen = b.bytes;
    while (near.write([new Uint8Array(1 << 20)]));
    await new Promise((resolve) => setImmediate(resolve));
    // Bytes that were already on their way into the process may still arrive.
    expect(b.bytes - seen).toBeLessThan(1 << 20);
  });

  it('closes by itself when its reader throws', async () => {
    const [near, far] = await pair();
    const a = new Recorder();
    near.attach(a);
    far.attach({
      data: () => {
        throw new Error('lost');
      },
      drain: () => undefined,
      closed: () => undefined,
    });
    near.write([new Uint8Array(1)]);
    await a.until(() => a.isClosed);
  });

  it('reports its end even if it is attached later', async () => {
    const [near, far] = await pair();
    near.destroy();
    const b = new Recorder();
    far.attach(b);
    await b.until(() => b.isClosed);
    const a = new Recorder();
    near.attach(a);
    await a.until(() => a.isClosed);
  });
});

describe('dialling', () => {
  it('says why a connection fails', async () => {
    await expect(dialSocket({ path: tempPath('none') }, signal())).rejects.toThrow('there is no such socket');
    const server: Server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    await expect(dialSocket({ host: '127.0.0.1', port }, signal())).rejects.toThrow('connection refused');
  });

  it('ends when it is cancelled', async () => {
    await expect(dialSocket({ host: '127.0.0.1', port: 1 }, AbortSignal.abort(new Error('stop')))).rejects.toThrow(
      'stop',
    );
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const giveUp = new AbortController();
    const dialling = dialSocket({ host: '127.0.0.1', port: (server.address() as AddressInfo).port }, giveUp.signal);
    giveUp.abort(new Error('enough'));
    await expect(dialling).rejects.toThrow('enough');
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});
