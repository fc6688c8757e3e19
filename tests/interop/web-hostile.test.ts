/** Hostile clients of the web server: too many requests at once, and tokens that have ended. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { silent, ThrottledLogger } from '../../src/base/log.js';
import { Exports } from '../../src/export/exports.js';
import { ConnectionView } from '../../src/export/view.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { messageSocket } from '../../src/web/server/connections.node.js';
import { webService, type WebService } from '../support/web-service.js';

let server: WebService;
beforeAll(async () => {
  server = await webService('disk=memory:1M');
});
afterAll(() => server.close());

/** Sends requests at once, of which the last wants the connection closed. Returns the answers. */
async function answersTo(count: number, path: string, more = ''): Promise<string> {
  const [host, port] = server.at.split(':') as [string, string];
  const socket = connect(Number(port), host);
  // A server that closes the connection early may reset it.
  socket.on('error', () => undefined);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const one = `GET ${path} HTTP/1.1\r\nHost: ${server.at}\r\n`;
  socket.write(`${`${one}\r\n`.repeat(count - 1)}${one}${more === '' ? 'Connection: close\r\n' : more}\r\n`);
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks).toString('latin1');
}

const statuses = (answers: string): string[] => [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status!);

test('requests that are sent at once are answered one after the other', async () => {
  expect(statuses(await answersTo(5, '/assets/none'))).toEqual(['404', '404', '404', '404', '404']);
});

test('a connection with too many requests at once is closed, and few are carried out', async () => {
  expect(statuses(await answersTo(500, '/assets/none')).length).toBeLessThanOrEqual(16);
  expect((await server.get('/api/exports')).status).toBe(200);
});

test('an upgrade waits for the answers to the requests before it', async () => {
  const upgrade = 'Connection: Upgrade\r\nUpgrade: nbd\r\n';
  const answers = await answersTo(3, '/nbd/disk', upgrade);
  expect(statuses(answers)).toEqual(['426', '426', '401']);
});

test('a client whose token has ended is not heard any more, although its connection is still there', async () => {
  const http = createServer();
  const sockets = new WebSocketServer({ server: http });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const client = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
  const [accepted] = (await once(sockets, 'connection')) as [WebSocket];
  const messages = messageSocket(accepted);
  const heard: Uint8Array[] = [];
  const closed = new Promise<void>((resolve) => {
    messages.attach({ message: (bytes) => void heard.push(bytes), closed: resolve });
  });
  if (client.readyState !== WebSocket.OPEN) await once(client, 'open');
  // A hostile client does not look at the close, and goes on.
  const raw = (client as unknown as { _socket: Socket })._socket;
  raw.pause();
  messages.close(1008, 'the token has expired or was revoked');
  client.send(Buffer.from('echo /\n'));
  raw.end();
  await closed;
  expect(heard).toEqual([]);
  client.terminate();
  http.close();
});

test('a client with a token is not told the address of the one that writes', async () => {
  const exports = new Exports();
  exports.add({ name: 'disk', device: new MemoryDevice(4096), oneWriter: 'refuse' });
  const log = new ThrottledLogger(silent);
  const entry = { exportName: 'disk', readOnly: false, encrypted: false, tlsNames: [] };
  const writer = new ConnectionView(exports, '1', '192.0.2.7:4711', log);
  writer.find('disk')!.entered({ fence: () => Promise.resolve() }, true);
  const plain = new ConnectionView(exports, '2', '127.0.0.1:4712', log);
  const web = new ConnectionView(exports, '3', '127.0.0.1:4713', log, entry);
  const tail = 'writes this export: try again when it has gone';
  expect(plain.find('disk')!.refusal(true)).toBe(`client 1 192.0.2.7:4711 ${tail}`);
  expect(web.find('')!.refusal(true)).toBe(`another client ${tail}`);
  // A token that only reads never takes the lease, whichever NBD client uses it.
  const reader = new ConnectionView(exports, '4', '127.0.0.1:4714', log, { ...entry, readOnly: true });
  expect(reader.find('')!.refusal(true)).toBeUndefined();
  for (const view of [plain, web, reader, writer]) view.close();
  await exports.close();
});

test('the holder of a token of an export cannot keep the owner out, who revokes it', async () => {
  const { token, entry } = await server.tokens.make(['disk'], false, 60);
  const headers = { authorization: `Bearer ${token}` };
  const sockets = Array.from({ length: 240 }, () => new WebSocket(`ws://${server.at}/api/events`, [], { headers }));
  const outcome = (socket: WebSocket): Promise<string> =>
    new Promise((resolve) => {
      socket.once('open', () => resolve('open'));
      socket.on('error', () => resolve('refused'));
    });
  const outcomes = await Promise.all(sockets.map(outcome));
  const count = outcomes.filter((one) => one === 'open').length;
  expect(count).toBeGreaterThan(100);
  expect(count).toBeLessThanOrEqual(192);
  expect((await server.get('/api/exports')).status).toBe(200);
  const closed = Promise.all(
    sockets.filter(({ readyState }) => readyState === WebSocket.OPEN).map((one) => once(one, 'close')),
  );
  await server.tokens.revoke(entry.id);
  expect(await closed).toHaveLength(count);
});
