/** NBD over WebSockets: framing, back pressure, and what a hostile peer sends. */
import { createServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { silent } from '../../src/base/log.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { streamOfSocket } from '../../src/network/websocket.node.js';
import { webSocketDialer, webSocketStream, type WebSocketLike } from '../../src/network/websocket.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import type { ByteStream } from '../../src/network/stream.js';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Listens for WebSockets and passes each to `serve`. Returns the host and port. */
async function listen(serve: (socket: WebSocket, token: string | undefined) => void): Promise<string> {
  const http: HttpServer = createServer();
  const sockets = new WebSocketServer({ server: http, maxPayload: 33 << 20 });
  sockets.on('connection', (socket, request) => serve(socket, request.headers.authorization));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const client of sockets.clients) client.terminate();
    http.close();
  });
  return `127.0.0.1:${(http.address() as AddressInfo).port}`;
}

function nbdServer(size: number): Server {
  const server = new Server(new Exports(), silent);
  server.exports.add({ name: 'disk', device: new MemoryDevice(size) });
  closing.push(() => server.drain());
  return server;
}

/** The next message or close of a stream. */
function nextOf(stream: ByteStream): Promise<{ data?: Uint8Array; error?: Error | undefined }> {
  return new Promise((resolve) => {
    stream.attach({
      data: (chunk) => resolve({ data: chunk.slice() }),
      drain: () => undefined,
      closed: (error) => resolve({ error }),
    });
  });
}

test('an initiator reads and writes over nbd+ws://, with its token in a header', async () => {
  const server = nbdServer(4 << 20);
  const tokens: (string | undefined)[] = [];
  const at = await listen((socket, token) => {
    tokens.push(token);
    server.accept(streamOfSocket(socket, '127.0.0.1:1', 0));
  });
  const disk = await openNbd(`nbd+ws://${at}/disk?token=abc`);
  closing.push(() => disk.close());
  const data = new Uint8Array(3 << 20).map((_, index) => index * 7);
  await disk.write(1 << 19, data);
  const read = new Uint8Array(data.length);
  await disk.read(1 << 19, read);
  expect(Buffer.compare(read, data)).toBe(0);
  expect(tokens).toEqual(['Bearer abc']);
});

test('the memory of each message is freed when its bytes were taken, and all data is right', async () => {
  const freed: ArrayBuffer[] = [];
  // Browsers have it (ES2024), Node 20 has not.
  const prototype = ArrayBuffer.prototype as { transfer?: unknown };
  const own = Object.getOwnPropertyDescriptor(prototype, 'transfer');
  closing.push(() => {
    delete prototype.transfer;
    if (own) Object.defineProperty(prototype, 'transfer', own);
  });
  prototype.transfer = function (this: ArrayBuffer) {
    freed.push(this);
    return structuredClone(this, { transfer: [this] });
  };
  const server = nbdServer(16 << 20);
  const at = await listen((socket) => server.accept(streamOfSocket(socket, '127.0.0.1:1', 0)));
  const messages: ArrayBuffer[] = [];
  const open = (url: string, offered: string[]): WebSocketLike => {
    const socket = new WebSocket(url, offered);
    socket.on('message', (data) => messages.push(data as ArrayBuffer));
    return socket as never;
  };
  const disk = await connectNbd(webSocketDialer(`ws://${at}/nbd/disk`, { open }), { exportName: 'disk' });
  closing.push(() => disk.close());
  const data = new Uint8Array(5 << 20).map((_, index) => index * 7 + (index >> 12));
  await disk.write(0, data);
  const lengths = [512, 65_536, 1 << 20, (1 << 20) + 512, 5 << 20];
  const reads = lengths.map((length) => ({ length, into: new Uint8Array(length) }));
  await Promise.all(reads.map(({ length, into }) => disk.read(data.length - length, into)));
  for (const { length, into } of reads) {
    expect(Buffer.compare(into, data.subarray(data.length - length))).toBe(0);
  }
  expect(freed.length).toBeGreaterThan(lengths.length);
  expect(messages.map(({ byteLength }) => byteLength).filter((length) => length > 0)).toEqual([]);
});

test("a browser's socket, which neither pauses nor reports sent bytes, carries the same", async () => {
  const server = nbdServer(16 << 20);
  const protocols: string[] = [];
  const at = await listen((socket) => {
    protocols.push(socket.protocol);
    server.accept(streamOfSocket(socket, '127.0.0.1:1', 0));
  });
  // The sockets of ws have the interface of a browser's.
  const open = (url: string, offered: string[]): WebSocketLike => new WebSocket(url, offered) as never;
  const dialer = webSocketDialer(`ws://${at}/nbd/disk`, { open, token: 'abc' });
  const disk = await connectNbd(dialer, { exportName: 'disk' });
  closing.push(() => disk.close());
  const data = new Uint8Array(8 << 20).fill(9);
  await disk.write(0, data);
  const read = new Uint8Array(data.length);
  await disk.read(0, read);
  expect(Buffer.compare(read, data)).toBe(0);
  expect(protocols).toEqual(['nbd']);
});

test('messages of one byte and fragments of one byte are taken', async () => {
  const at = await listen((socket) => {
    for (const byte of [1, 2, 3]) socket.send(Uint8Array.of(byte));
    for (const byte of [4, 5]) socket.send(Uint8Array.of(byte), { fin: false });
    socket.send(Uint8Array.of(6), { fin: true });
    socket.close(1000);
  });
  const socket = new WebSocket(`ws://${at}/`);
  const stream = streamOfSocket(socket, 'peer');
  const bytes: number[] = [];
  const error = await new Promise((resolve) => {
    stream.attach({ data: (chunk) => bytes.push(...chunk), drain: () => undefined, closed: resolve });
  });
  expect(bytes).toEqual([1, 2, 3, 4, 5, 6]);
  expect(error).toBeUndefined();
});

test('a text message ends the stream with a plain error', async () => {
  const closed: number[] = [];
  const at = await listen((socket) => {
    socket.on('close', (code) => closed.push(code));
    socket.send('hello');
  });
  const socket = new WebSocket(`ws://${at}/`);
  const done = new Promise((resolve) => socket.once('close', resolve));
  const { error } = await nextOf(streamOfSocket(socket, 'nbd+ws://peer/'));
  expect(error?.message).toBe(
    'nbd+ws://peer/: the other side sent text, and this connection carries bytes: is the address right?',
  );
  await done;
  expect(closed).toEqual([4003]);
});

test('an oversized message ends the stream', async () => {
  const at = await listen((socket) => socket.send(Buffer.alloc(33 * 1024 * 1024 + 1)));
  const socket = new WebSocket(`ws://${at}/`, { maxPayload: 33 << 20 });
  const { error } = await nextOf(streamOfSocket(socket, 'peer'));
  expect(error?.message).toBe('the WebSocket failed: Max payload size exceeded');
});

test('a paused stream that cannot stop the peer holds a limited number of bytes', () => {
  const { socket, closes } = fakeSocket();
  const stream = webSocketStream(socket, { peer: 'peer' });
  const errors: unknown[] = [];
  const events = { data: () => stream.pause(), drain: () => undefined, closed: (error?: Error) => errors.push(error) };
  stream.attach(events);
  const message = new ArrayBuffer(1 << 20);
  for (let count = 0; count < 70; count++) socket.onmessage?.({ data: message } as never);
  expect(closes).toEqual([4009]);
  expect(errors).toHaveLength(1);
  expect(String(errors[0])).toContain('the other side sent more than it was asked for');
});

test('write waits for a socket that does not send, and drains when it has', async () => {
  const { socket } = fakeSocket();
  const stream = webSocketStream(socket, { peer: 'peer', highWater: 1000 });
  const drained = new Promise<void>((resolve) => {
    stream.attach({ data: () => undefined, drain: resolve, closed: () => undefined });
  });
  expect(stream.write([new Uint8Array(600)])).toBe(true);
  expect(stream.write([new Uint8Array(600)])).toBe(false);
  expect(stream.pending).toBe(1200);
  (socket as { bufferedAmount: number }).bufferedAmount = 0;
  await drained;
});

test('a close with a code of a failure is an error that names it', async () => {
  const at = await listen((socket) => socket.close(1008, 'the token has \u001b[31mexpired'));
  const { error } = await nextOf(streamOfSocket(new WebSocket(`ws://${at}/`), 'peer'));
  expect(error?.message).toBe('the connection was closed: the other side refused it: the token has ?[31mexpired');
});

test('a refused handshake says why, and no message has the token', async () => {
  const http = createServer();
  http.on('upgrade', (_request, socket) =>
    socket.on('error', () => undefined).end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n'),
  );
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  closing.push(() => http.close());
  const at = `127.0.0.1:${(http.address() as AddressInfo).port}`;
  const failure = openNbd(`nbd+ws://${at}/disk?token=secret`, { reconnectSeconds: 0 });
  await expect(failure).rejects.toThrow(
    `cannot connect to nbd+ws://${at}/disk: the token is missing, wrong or has expired: farbus token makes one on the server`,
  );
});

/** A socket that sends nothing, as a browser's looks to a page. */
function fakeSocket(): { socket: WebSocketLike; closes: (number | undefined)[] } {
  const closes: (number | undefined)[] = [];
  const socket: WebSocketLike = {
    binaryType: '',
    readyState: 1,
    bufferedAmount: 0,
    send(data) {
      (this as { bufferedAmount: number }).bufferedAmount += data.length;
    },
    close: (code) => void closes.push(code),
    onopen: null,
    onmessage: null,
    onclose: null,
    onerror: null,
  };
  return { socket, closes };
}
