/**
 * Sockets as byte streams in bad conditions: events that send(2) on the descriptor sees before the
 * event loop does, sockets that are closed or handed over while they are read, and peers
 * that flood. With real sockets.
 */
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { EagerStream } from '../../src/network/eager/stream.node.js';
import { socketCalls, type SocketCalls } from '../../src/linux/sockets.node.js';
import { listenOn, type SocketListener } from '../../src/network/listen.node.js';
import type { SocketAddress } from '../../src/network/socket.node.js';
import type { ByteStream } from '../../src/network/stream.js';
import { tempPath } from '../support/temp.js';
import { nextIteration } from '../support/event-loop.js';

const text = (chunk: Uint8Array): string => Buffer.from(chunk).toString('latin1');
const bytes = (words: string): Uint8Array => Buffer.from(words, 'latin1');

let calls: SocketCalls | undefined;
try {
  calls = socketCalls('');
} catch (error) {
  console.error(`SKIPPED: raw sockets: ${String(error)}`);
}

describe.each(['tcp', 'unix'])('a socket stream over %s', (transport) => {
  const undo: (() => unknown)[] = [];
  afterEach(async () => {
    vi.restoreAllMocks();
    for (const step of undo.splice(0).reverse()) await step();
  });

  async function listening(accept: (stream: ByteStream) => void): Promise<SocketListener> {
    const at: SocketAddress = transport === 'tcp' ? { host: '127.0.0.1', port: 0 } : { path: tempPath('s') };
    const keep = (stream: ByteStream): void => {
      undo.push(() => stream.destroy());
      accept(stream);
    };
    const listener = await listenOn(at, keep, (error) => {
      throw error;
    });
    undo.push(() => listener.close());
    return listener;
  }

  async function dialled(listener: SocketListener, options: { allowHalfOpen?: boolean } = {}): Promise<Socket> {
    const socket = connect({ ...listener.at, ...options });
    undo.push(() => socket.destroy());
    socket.on('error', () => undefined);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    socket.setNoDelay(true);
    return socket;
  }

  /**
   * An accepted stream that has exchanged questions and answers for a while. `last` is called
   * within the data event of the last question, and `end` resolves when the stream is closed.
   */
  async function busyStream(last: (stream: EagerStream, peer: Socket) => void) {
    const heard: string[] = [];
    let ended: (error?: Error) => void = () => undefined;
    const end = new Promise<Error | undefined>((resolve) => (ended = resolve));
    let stream: EagerStream | undefined;
    const listener = await listening((accepted) => {
      stream = accepted as EagerStream;
      accepted.attach({
        data: (chunk) => {
          heard.push(text(chunk));
          if (text(chunk).includes('last')) last(stream!, peer);
          else accepted.write([bytes('go on')]);
        },
        drain: () => undefined,
        closed: ended,
      });
    });
    const peer = await dialled(listener);
    for (const began = performance.now(); performance.now() - began < 10;) {
      peer.write('hello');
      await new Promise((resolve) => peer.once('data', resolve));
    }
    heard.length = 0;
    peer.write('last');
    return { heard, end, peer, stream: stream!, said: () => vi.waitUntil(() => heard.join('').includes('last')) };
  }

  it('sends all chunks, also empty ones', async () => {
    const listener = await listening((stream) => {
      stream.attach({ data: () => undefined, drain: () => undefined, closed: () => undefined });
      const [none, one, long] = [new Uint8Array(0), bytes('1'), bytes('0123456789'.repeat(100))];
      for (const chunks of [
        [none, one],
        [none, none, one, none],
        [one, none],
        [none, long, none, one],
        [none],
        [long],
      ]) {
        stream.write(chunks);
      }
    });
    const peer = await dialled(listener);
    let got = '';
    peer.on('data', (chunk: Buffer) => (got += chunk.toString('latin1')));
    await vi.waitUntil(() => got.length >= 2004);
    expect(got).toBe(`111${'0123456789'.repeat(100)}1${'0123456789'.repeat(100)}`);
  });

  it('sends remaining data to a peer that has half-closed, and ends cleanly', async () => {
    let ended: (error?: Error) => void = () => undefined;
    const end = new Promise<Error | undefined>((resolve) => (ended = resolve));
    const listener = await listening((stream) =>
      stream.attach({ data: () => void stream.write([bytes('answer')]), drain: () => undefined, closed: ended }),
    );
    const peer = await dialled(listener, { allowHalfOpen: true });
    let got = '';
    peer.on('data', (chunk: Buffer) => (got += chunk.toString()));
    const over = new Promise((resolve) => peer.once('end', resolve));
    peer.end('question');
    expect(await end).toBeUndefined();
    await over;
    expect(got).toBe('answer');
  });

  it('that is destroyed with unsent bytes is closed at once, and drops them', async () => {
    let ended: () => void = () => undefined;
    const end = new Promise<void>((resolve) => (ended = resolve));
    let stream: ByteStream | undefined;
    const listener = await listening((accepted) => {
      stream = accepted;
      accepted.attach({ data: () => undefined, drain: () => undefined, closed: () => ended() });
    });
    const peer = await dialled(listener);
    peer.pause();
    await vi.waitUntil(() => stream);
    let sent = 0;
    while (stream!.write([new Uint8Array(100_000)])) sent += 100_000;
    sent += 100_000 - stream!.pending;
    expect(stream!.pending).toBeGreaterThan(0);
    stream!.destroy();
    await end;
    expect(stream!.write([bytes('more')])).toBe(true);
    let got = 0;
    const failed = new Promise((resolve) => peer.once('error', resolve).once('end', resolve));
    peer.on('data', (chunk: Buffer) => (got += chunk.length)).resume();
    await failed;
    expect(got).toBeLessThanOrEqual(sent);
  });

  it('notices a lost peer when it sends, and is closed', async () => {
    let ended: (error?: Error) => void = () => undefined;
    const end = new Promise<Error | undefined>((resolve) => (ended = resolve));
    let stream: ByteStream | undefined;
    const listener = await listening((accepted) => {
      stream = accepted;
      accepted.attach({ data: () => undefined, drain: () => undefined, closed: ended });
    });
    const peer = await dialled(listener);
    await vi.waitUntil(() => stream);
    // The peer is gone, but the event loop has not noticed yet.
    if (transport === 'tcp') peer.resetAndDestroy();
    else peer.destroy();
    for (let i = 0; i < 3; i++) stream!.write([bytes('x'), new Uint8Array(300_000)]);
    await end;
    expect(stream!.write([bytes('more')])).toBe(true);
  });

  describe.skipIf(!calls)('while it reads', () => {
    it('that is destroyed sends nothing to a new owner of its descriptor number', async () => {
      const send = vi.spyOn(calls!, 'send');
      let pair: [number, number] = [-1, -1];
      const { heard, end } = await busyStream((stream, peer) => {
        const fd = send.mock.calls.at(-1)![0];
        peer.write('what comes too late');
        stream.destroy();
        // The lowest free descriptors.
        pair = calls!.socketPair();
        expect(pair).toContain(fd);
        const other = pair[0] === fd ? pair[1] : pair[0];
        calls!.write(other, bytes('of others'));
        send.mockClear();
        stream.write([bytes('more')]);
      });
      await end;
      await nextIteration();
      expect(heard.join('')).toBe('last');
      expect(send).not.toHaveBeenCalled();
      for (const fd of pair) calls!.close(fd);
    });

    it('that is handed over leaves incoming bytes to the new owner', async () => {
      let given: Socket | undefined;
      const { heard, stream, said } = await busyStream((released, peer) => {
        // The bytes that a TLS client sends as early as it may.
        peer.write('hello of TLS');
        given = released.release();
      });
      await said();
      await nextIteration();
      expect(heard.join('')).toBe('last');
      const into = new Uint8Array(100);
      const { fd } = (given as unknown as { _handle: { fd: number } })._handle;
      const count = calls!.read(fd, into);
      expect(text(into.subarray(0, count))).toBe('hello of TLS');
      // Bytes written here after the handover would end up within TLS.
      expect(stream.write([bytes('no')])).toBe(true);
      expect(given!.bytesWritten).toBe(0);
      expect(stream.release()).toBeUndefined();
      given!.destroy();
    });

    it('that is paused leaves incoming bytes to be read later', async () => {
      const { heard, stream, said } = await busyStream((paused, peer) => {
        peer.write('later');
        paused.pause();
      });
      await said();
      await nextIteration();
      expect(heard.join('')).toBe('last');
      stream.resume();
      await vi.waitUntil(() => heard.join('') === 'lastlater');
    });
  });

  it.skipIf(!calls)('that always has something to read lets other sockets run', async () => {
    const pong = await listening((stream) =>
      stream.attach({
        data: () => void stream.write([bytes('pong')]),
        drain: () => undefined,
        closed: () => undefined,
      }),
    );
    const other = await dialled(pong);
    let flooded = 0;
    let over = false;
    await busyStream((stream, peer) => {
      const more = (): void => {
        // More bytes have arrived before this returns, so that a read never has to wait.
        if (!over) peer.write('flood');
        stream.write([bytes('x')]);
      };
      stream.attach({
        data: (chunk) => {
          flooded += chunk.length;
          more();
        },
        drain: () => undefined,
        closed: () => undefined,
      });
      more();
    });
    await vi.waitUntil(() => flooded > 10_000, { timeout: 20_000 });
    for (let i = 0; i < 100; i++) {
      const seen = flooded;
      other.write('ping');
      await new Promise((resolve) => other.once('data', resolve));
      await vi.waitUntil(() => flooded > seen, { timeout: 20_000 });
    }
    over = true;
  });
});
