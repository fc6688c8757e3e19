/** Unmasking of a client's frames before `ws` reads them. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { unmaskEarly } from '../../src/network/websocket.node.js';
import { Unmasker } from '../../src/network/websocket-unmask.js';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

/** A frame of a client: its bytes with the mask, and as they are with a mask of 0. */
function frame(length: number, mask: readonly number[] | undefined): { sent: Buffer; plain: Buffer } {
  const second = mask ? 0x80 : 0;
  let header = Buffer.from([0x82, second | length]);
  if (length > 0xffff) {
    header = Buffer.from([0x82, second | 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    header.writeUInt32BE(length, 6);
  } else if (length > 125) header = Buffer.from([0x82, second | 126, length >> 8, length & 0xff]);
  const payload = Buffer.from(Array.from({ length }, (_, index) => (index * 31 + length) & 0xff));
  if (!mask) return { sent: Buffer.concat([header, payload]), plain: Buffer.concat([header, payload]) };
  const masked = payload.map((byte, index) => byte ^ mask[index % 4]!);
  return {
    sent: Buffer.concat([header, Buffer.from(mask), masked]),
    plain: Buffer.concat([header, Buffer.alloc(4), payload]),
  };
}

test('frames of all lengths are unmasked, wherever the connection cuts them', () => {
  const masks = [[1, 2, 3, 4], [255, 0, 128, 7], [0, 0, 0, 0], undefined];
  const frames = [0, 1, 3, 4, 5, 125, 126, 127, 1000, 65535, 65536, 70001].map((length, index) =>
    frame(length, masks[index % masks.length]),
  );
  const [sent, plain] = [Buffer.concat(frames.map((one) => one.sent)), Buffer.concat(frames.map((one) => one.plain))];
  for (const step of [1, 2, 3, 7, 1021, 65536, sent.length]) {
    const unmasker = new Unmasker();
    // One byte before: views of words must be aligned.
    const bytes = Buffer.concat([Buffer.alloc(1), sent]).subarray(1);
    for (let at = 0; at < bytes.length; at += step) unmasker.receive(bytes.subarray(at, at + step));
    expect(bytes.equals(plain), `pieces of ${step} bytes`).toBe(true);
  }
});

/** A connection whose frames are unmasked early: the server's socket of `ws`, and both raw ones. */
async function connected(): Promise<{ server: WebSocket; accepted: Socket; client: WebSocket; raw: Socket }> {
  const http = createServer();
  const sockets = new WebSocketServer({ noServer: true });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  closing.push(() => http.close());
  const upgraded = new Promise<{ server: WebSocket; accepted: Socket }>((resolve) => {
    http.on('upgrade', (request, accepted: Socket, head) => {
      sockets.handleUpgrade(request, accepted, head, (server) => {
        unmaskEarly(accepted);
        resolve({ server, accepted });
      });
    });
  });
  const client = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
  closing.push(() => client.terminate());
  await once(client, 'open');
  return { ...(await upgraded), client, raw: (client as unknown as { _socket: Socket })._socket };
}

test('a server gets the messages of a client as they were sent', async () => {
  const { server, client } = await connected();
  const got: Buffer[] = [];
  server.on('message', (data: Buffer) => got.push(data));
  const sent = [1, 200, 70_000, 1 << 20].map((length) => frame(length, undefined).plain);
  for (const message of sent) client.send(message);
  client.close();
  await once(server, 'close');
  expect(got.map((message, index) => message.equals(sent[index]!))).toEqual([true, true, true, true]);
});

test('a connection that is destroyed within a frame gives no message with masked bytes', async () => {
  const { server, accepted, raw } = await connected();
  const got: unknown[] = [];
  server.on('message', (data) => got.push(data));
  const { sent } = frame(1000, [1, 2, 3, 4]);
  const first = once(accepted, 'data');
  raw.write(sent.subarray(0, 500));
  await first;
  server.pause();
  raw.write(sent.subarray(500));
  while (accepted.readableLength < sent.length - 500) await new Promise((resolve) => setTimeout(resolve, 5));
  accepted.destroy();
  await once(server, 'close');
  expect(got).toEqual([]);
});
