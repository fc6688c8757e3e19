/** Drives of a computer in a tab, opened in Node with the WebSocket of `ws`. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { silent } from '../../src/base/log.js';
import { Steps } from '../../src/base/steps.js';
import { openTabDrive } from '../../src/browser/drives.js';
import { Exports, type Offered } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { streamOfSocket } from '../../src/network/websocket.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  vi.unstubAllGlobals();
});

/** Serves a disk with this content. Returns its address and the export. */
async function serve(content: Uint8Array): Promise<{ url: string; offered: Offered }> {
  const server = new Server(new Exports(), silent);
  const device = new MemoryDevice(content.length);
  await device.write(0, content);
  const offered = server.exports.add({ name: 'disk', device, isDefault: true });
  const http = createServer();
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (socket) => server.accept(streamOfSocket(socket, '127.0.0.1:1', 0)));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  closing.push(async () => {
    await server.drain();
    http.close();
  });
  return { url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}/nbd/disk`, offered };
}

test.each([
  { readAhead: true, fewer: true },
  { readAhead: false, fewer: false },
])('reads ahead of a sequential reader unless readAhead is false: $readAhead', async ({ readAhead, fewer }) => {
  vi.stubGlobal('WebSocket', WebSocket);
  const content = Uint8Array.from({ length: 4 << 20 }, (_, index) => (index * 7) >> 3);
  const { url, offered } = await serve(content);
  const ignore = (): void => undefined;
  const context = { log: silent, steps: new Steps(), onState: ignore, onCache: ignore };
  const drive = await openTabDrive({ url, readOnly: true, readAhead }, context);
  closing.push(() => drive.close());
  const length = 64 << 10;
  const read = new Uint8Array(content.length);
  const before = offered.counters.requests;
  for (let at = 0; at < content.length; at += length) await drive.read(at, read.subarray(at, at + length));
  expect(Buffer.compare(read, content)).toBe(0);
  expect(offered.counters.requests - before < content.length / length / 2).toBe(fewer);
});
