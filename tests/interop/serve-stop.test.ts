/** `farbus serve` ends on SIGTERM, whatever its clients, its device and its observers are doing. */
import { chmodSync, readdirSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join as pathOf } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { infoData, join, optionBytes, requestBytes } from '../unit/nbd-target-peer.js';
import { entered, greeted, received } from '../support/nbd-client.js';
import { freeSocket, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { authority, noOpenssl } from '../support/tls-certificates.js';
import { startFarbus, type Started } from './farbus.js';
import { u32 } from '../support/numbers.js';

const MiB = 1 << 20;
const cannot = missing('nbdkit') || noOpenssl();
const folder = tempFolder();
const sockets: Socket[] = [];
let upstream: NbdPeer;

/** A disk whose second half never answers. */
const plugin = `#!/bin/sh
case "$1" in
  get_size) echo ${8 * MiB} ;;
  pread) [ "$4" -lt ${4 * MiB} ] || exec sleep 1000; head -c "$3" /dev/zero ;;
  thread_model) echo parallel ;;
  *) exit 2 ;;
esac
`;

beforeAll(async () => {
  if (cannot) return;
  const script = pathOf(folder, 'plugin.sh');
  writeFileSync(script, plugin);
  chmodSync(script, 0o755);
  upstream = await nbdkit(freeSocket(), ['sh', script]);
});

afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  await upstream?.kill();
});

async function serve(): Promise<{ server: Started; where: { path: string }; metrics: number }> {
  const where = { path: pathOf(folder, `${readdirSync(folder).length}.sock`) };
  process.env['XDG_RUNTIME_DIR'] = folder;
  const tls = ['--tls', 'on', '--tls-certificates', authority().folder];
  const listen = `nbd+unix:///?socket=${where.path}`;
  const server = startFarbus('serve', '--json', '--listen', listen, '--metrics', '0', ...tls, `disk=${upstream.uri}`);
  delete process.env['XDG_RUNTIME_DIR'];
  const [, port] = await server.printed(/"metrics":"http:\/\/127\.0\.0\.1:(\d+)\//);
  return { server, where, metrics: Number(port) };
}

function keep<T extends Socket>(socket: T): T {
  socket.on('error', () => undefined);
  sockets.push(socket);
  return socket;
}

/** Everything that a client can leave open, on one server. */
async function everybody({ server, where, metrics }: Awaited<ReturnType<typeof serve>>): Promise<void> {
  const hung = keep(await entered(where));
  hung.write(requestBytes({ command: 0, offset: 6 * MiB, length: 4096 }));
  const deaf = keep(await entered(where));
  deaf.pause();
  for (let i = 0; i < 64; i++) deaf.write(requestBytes({ command: 0, length: MiB }));
  keep(await entered(where)).write(requestBytes({ command: 1, offset: 0, length: 4096 }));
  keep(await entered(where)).end();
  keep(await greeted(where)).write(join([u32(3), optionBytes(7, infoData('disk', [])).subarray(0, 20)]));
  const securing = keep(await greeted(where));
  securing.write(join([u32(3), optionBytes(5, new Uint8Array(0))]));
  await received(securing, 20);
  securing.write(Uint8Array.of(0x16, 3, 1));
  // Sends NBD_OPT_ABORT and continues to send.
  const ended = keep(await greeted(where));
  ended.write(join([u32(3), optionBytes(2, new Uint8Array(0))]));
  const drip = setInterval(() => ended.write(u32(0)), 20);
  ended.once('close', () => clearInterval(drip));
  for (const text of ['', 'GET /metrics HTTP/1.1\r\nHost: x\r\n', 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n']) {
    keep(connect({ host: '127.0.0.1', port: metrics })).write(text);
  }
  const control = pathOf(folder, 'farbus', `serve-server.${server.child.pid}.sock`);
  for (const text of ['', '{"comm', '{"command":"status"}\n']) keep(connect(control)).write(text);
  await sleep(200);
}

it.skipIf(cannot)('cleanly, although all of them stay', async () => {
  const running = await serve();
  await everybody(running);
  running.server.child.kill('SIGTERM');
  expect(await running.server.ended).toEqual({ code: 0, signal: null });
});

it.skipIf(cannot)('at once at the second signal', async () => {
  const running = await serve();
  await everybody(running);
  running.server.child.kill('SIGTERM');
  await sleep(100);
  running.server.child.kill('SIGTERM');
  expect(await running.server.ended).toEqual({ code: 143, signal: null });
});
