/**
 * `farbus serve` with TLS and an attacker who injects bytes into the connection, or cuts it, at the
 * switch to TLS ([NBD] "TLS support"; as in CVE-2021-3716). Bytes that arrived in plain text are
 * never answered or trusted after NBD_OPT_STARTTLS, and nothing is left behind. The server is a
 * separate process, so that it reads while the test writes.
 */
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { socketCalls } from '../../src/linux/sockets.node.js';
import { Option } from '../../src/protocol/nbd/spec.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { greeted, received, type Where } from '../support/nbd-client.js';
import { farbusServe, freePort, freeSocket, type NbdPeer } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { authority, noOpenssl } from '../support/tls-certificates.js';
import { infoData, join, optionBytes } from '../unit/nbd-target-peer.js';
import { u32 } from '../support/numbers.js';

const none = new Uint8Array(0);
const starttls = join([u32(3), optionBytes(Option.starttls, none)]);
const list = optionBytes(Option.list, none);
const go = optionBytes(Option.go, infoData('secret', []));
/** NBD_REP_ACK to NBD_OPT_STARTTLS. */
const acknowledgement = Buffer.from('0003e889045565a9000000050000000100000000', 'hex');
const replyMagic = acknowledgement.subarray(0, 8);

/** The first message of a TLS client. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const transport = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer) => {
        resolve(chunk);
        transport.destroy();
      },
    });
    tlsConnect({ socket: transport }).on('error', () => undefined);
  });
}

/** Collects all bytes until the connection is closed. */
async function untilClosed(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).resume();
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks);
}

/** The bytes contain at most the permission to start TLS, followed by TLS's own messages. */
function expectNothingTold(bytes: Buffer, mayBegin = true): void {
  const rest = bytes.subarray(0, 20).equals(acknowledgement) ? bytes.subarray(20) : bytes;
  if (!mayBegin) expect(rest.toString('hex')).toBe('');
  expect(rest.includes(replyMagic)).toBe(false);
  expect(bytes.includes('secret')).toBe(false);
}

async function secured(socket: Socket): Promise<TLSSocket> {
  const tls = tlsConnect({ socket, rejectUnauthorized: false });
  tls.on('error', () => undefined);
  await new Promise((resolve, reject) => tls.once('secureConnect', resolve).once('error', reject));
  return tls;
}

describe.skipIf(noOpenssl()).each(['tcp', 'unix'])('TLS over %s', (transport) => {
  let server: NbdPeer;
  let where: Where;
  beforeAll(async () => {
    const place = transport === 'tcp' ? await freePort() : freeSocket();
    where = 'port' in place ? { host: '127.0.0.1', ...place } : place;
    const path = tempPath('disk.img');
    writeFileSync(path, '');
    truncateSync(path, 1 << 20);
    server = await farbusServe(place, 'secret', ['--tls-certificates', authority().folder, `secret=${path}`]);
  });
  afterAll(() => server.kill());

  /** A connection on which the server has acknowledged NBD_OPT_STARTTLS. */
  async function acknowledged(): Promise<Socket> {
    const socket = await greeted(where);
    socket.write(starttls);
    expect((await received(socket, 20)).equals(acknowledgement)).toBe(true);
    return socket;
  }

  it('works however the option is split', async () => {
    for (const cut of [starttls.length, 1, 3, 19]) {
      const socket = await greeted(where);
      socket.setNoDelay(true);
      const answer = received(socket, 20);
      for (let at = 0; at < starttls.length; at += cut) {
        socket.write(starttls.subarray(at, at + cut));
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect((await answer).equals(acknowledgement)).toBe(true);
      const tls = await secured(socket);
      tls.write(list);
      expect((await received(tls, 20 + 10 + 20)).includes('secret')).toBe(true);
      tls.destroy();
    }
  });

  const injected: [string, () => Promise<Uint8Array> | Uint8Array][] = [
    ['an option', () => list],
    ['several', () => join([list, go, list])],
    ['one byte', () => new Uint8Array(1)],
    ['what begins as TLS does', () => Uint8Array.of(22, 3, 1, 2)],
    ['an option before the TLS handshake', async () => join([go, await clientHello()])],
  ];

  it.each([...injected, ['a TLS handshake', clientHello] as const])(
    '%s in one piece with the option ends it before TLS',
    async (_what, bytes) => {
      const socket = await greeted(where);
      socket.write(join([starttls, await bytes()]));
      expectNothingTold(await untilClosed(socket), false);
    },
  );

  it.each(injected)('%s after the acknowledgement is not believed', async (_what, bytes) => {
    const socket = await acknowledged();
    socket.write(await bytes());
    // For bytes that may become a TLS record, the server waits for the rest.
    socket.end();
    expectNothingTold(await untilClosed(socket));
  });

  it('an option sent at any moment around the acknowledgement is never answered', async () => {
    for (let round = 0; round < 60; round++) {
      const socket = await greeted(where);
      socket.setNoDelay(true);
      socket.write(starttls);
      const until = performance.now() + (round % 20) * 0.05;
      while (performance.now() < until);
      socket.write(round % 2 ? go : list);
      expectNothingTold(await untilClosed(socket));
    }
  });

  it.skipIf(fileCalls() === undefined)('an option in the clear on a connection that is TLS ends it', async () => {
    const socket = await acknowledged();
    const tls = await secured(socket);
    tls.write(list);
    await received(tls, 20 + 10 + 20);
    const told: Buffer[] = [];
    tls.on('data', (chunk: Buffer) => told.push(chunk));
    const closed = new Promise((resolve) => tls.once('close', resolve));
    // Write past TLS, directly to the connection.
    socketCalls('').write((socket as unknown as { _handle: { fd: number } })._handle.fd, go);
    await closed;
    expect(told).toEqual([]);
  });

  it('a client that disconnects at any step leaves nothing behind', async () => {
    const pid = server.pid!;
    const open = (): number => readdirSync(`/proc/${pid}/fd`).length;
    (await greeted(where)).destroy();
    const hello = await clientHello();
    const steps: ((socket: Socket) => unknown)[] = [
      (socket) => socket.write(starttls.subarray(0, 10)),
      (socket) => socket.write(starttls),
      (socket) => socket.write(join([starttls, list])),
      async (socket) => {
        socket.write(starttls);
        await received(socket, 20);
        socket.write(hello.subarray(0, 100));
      },
      async (socket) => {
        socket.write(starttls);
        await received(socket, 20);
        socket.write(hello);
        await received(socket, 100);
      },
      async (socket) => {
        socket.write(starttls);
        await received(socket, 20);
        (await secured(socket)).write(list);
      },
    ];
    const before = open();
    for (const end of ['destroy', 'end', 'reset'] as const) {
      for (const step of steps) {
        const socket = await greeted(where);
        await step(socket);
        if (end === 'reset' && transport === 'tcp') socket.resetAndDestroy();
        else if (end === 'end') socket.end(() => setTimeout(() => socket.destroy(), 50));
        else socket.destroy();
      }
    }
    await vi.waitUntil(() => open() <= before, { timeout: 20_000 });
    const tls = await secured(await acknowledged());
    tls.write(list);
    expect((await received(tls, 20 + 10 + 20)).includes('secret')).toBe(true);
    tls.destroy();
    expect(server.output).not.toMatch(/internal|Unhandled|\bat .*\.js:\d/);
  });
});
