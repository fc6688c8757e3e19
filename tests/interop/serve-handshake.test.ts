/**
 * `farbus serve` with clients that send requests right after the option that enters transmission,
 * in one packet or in any two pieces. Exports of every kind that the command line composes: the
 * server first asks for their size, which takes a further iteration of the event loop.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join as pathOf } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { infoData, join, optionBytes, requestBytes } from '../unit/nbd-target-peer.js';
import { ask, entered, greeted, received } from '../support/nbd-client.js';
import { freeSocket, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { authority, noOpenssl } from '../support/tls-certificates.js';
import { startFarbus, type Started } from './farbus.js';
import { u32 } from '../support/numbers.js';

const sector = 512;
const MiB = 1 << 20;
const partitionAt = 2048 * sector;
const folder = tempFolder();
const image = pathOf(folder, 'disk.img');
const where = { path: pathOf(folder, 'nbd.sock') };
const content = randomBytes(4 * MiB);
const request = requestBytes({ command: 0, offset: 0, length: sector });

/**
 * The first option of a connection, and the number of bytes that the server answers before
 * transmission.
 */
const options: Record<string, (name: string) => { bytes: Uint8Array; answer: number }> = {
  NBD_OPT_GO: (name) => ({ bytes: optionBytes(7, infoData(name, [])), answer: 52 }),
  NBD_OPT_EXPORT_NAME: (name) => ({ bytes: optionBytes(1, new TextEncoder().encode(name)), answer: 10 }),
};

let upstream: NbdPeer;
let server: Started;

/**
 * Sends `packet` in two pieces that the server receives separately. Expects the export's first
 * sector in reply.
 */
async function readsBehind(
  socket: Socket,
  packet: Uint8Array,
  cut: number,
  answer: number,
  first: Buffer,
): Promise<void> {
  const answered = received(socket, answer + 16 + sector);
  socket.write(packet.subarray(0, cut));
  await new Promise((resolve) => setTimeout(resolve, 2));
  socket.write(packet.subarray(cut));
  const data = (await answered).subarray(answer + 16);
  socket.destroy();
  expect(data.equals(first)).toBe(true);
}

/** Checks that an ordinary client is served. */
async function answersOthers(): Promise<void> {
  const socket = await entered(where, 'file');
  expect(await ask(socket, 3)).toBe(0);
  socket.destroy();
}

function firstOf(name: string): Buffer {
  const at = name === 'partition' ? partitionAt : 0;
  return content.subarray(at, at + sector);
}

beforeAll(async () => {
  writeFileSync(image, content);
  execFileSync('sfdisk', ['--quiet', image], { input: 'label: dos\n2048,2048,c\n' });
  // sfdisk has written into the first sector.
  readFileSync(image).copy(content);
  // A writable file is locked: use one copy for each export.
  const copy = (name: string): string => {
    const path = pathOf(folder, `${name}.img`);
    copyFileSync(image, path);
    return path;
  };
  upstream = await nbdkit(freeSocket(), ['file', image]);
  const exports = [
    `{name: file, source: ${copy('file')}}`,
    `{name: gateway, source: "${upstream.uri}"}`,
    `{name: overlay, source: ${copy('overlay')}, overlay: ${pathOf(folder, 'overlay')}}`,
    `{name: cache, source: "${upstream.uri}", cache: ${pathOf(folder, 'cache')}}`,
    `{name: partition, source: ${copy('partition')}, partition: 1}`,
    `{name: lease, source: ${copy('lease')}, one-writer: read-only}`,
    `{name: secret, source: ${copy('secret')}, tls-only: true}`,
  ];
  const config = pathOf(folder, 'serve.yaml');
  writeFileSync(
    config,
    `listen: ['nbd+unix:///?socket=${where.path}']\n` +
      `tls: {mode: on, certificates: ${authority().folder}}\n` +
      `exports:\n${exports.map((one) => `  - ${one}\n`).join('')}`,
  );
  server = startFarbus('serve', '--config', config);
  await server.printed(/\n/);
});

afterAll(async () => {
  server.child.kill('SIGKILL');
  await upstream.kill();
});

const cannot = ['nbdkit', 'sfdisk'].some(missing) || noOpenssl();

describe.skipIf(cannot)('a request in the packet that enters transmission', () => {
  const names = ['file', 'gateway', 'overlay', 'cache', 'partition', 'lease'];
  const cases = Object.keys(options).flatMap((option) => names.map((name) => [option, name] as const));

  it.each(cases)('%s of the export %s', async (option, name) => {
    const { bytes, answer } = options[option]!(name);
    const packet = join([u32(3), bytes, request]);
    const one = async (cut: number): Promise<void> =>
      readsBehind(await greeted(where), packet, cut, answer, firstOf(name));
    for (let cut = 1; cut <= packet.length; cut += 16) {
      await Promise.all(Array.from({ length: Math.min(16, packet.length - cut + 1) }, (_, i) => one(cut + i)));
    }
    await answersOthers();
  });

  it.each(Object.keys(options))('%s over TLS', async (option) => {
    const { bytes, answer } = options[option]!('secret');
    const packet = join([bytes, request]);
    for (let cut = 1; cut <= packet.length; cut++) {
      const plain = await greeted(where);
      plain.write(join([u32(3), optionBytes(5, new Uint8Array(0))]));
      await received(plain, 20);
      const socket = connectTls({ socket: plain, rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      await readsBehind(socket, packet, cut, answer, firstOf('secret'));
    }
    await answersOthers();
  });

  it.each(Object.keys(options))('%s with one byte behind it, from a client that then says nothing', async (option) => {
    const { bytes, answer } = options[option]!('file');
    const socket = await greeted(where);
    socket.write(join([u32(3), bytes, new Uint8Array(1)]));
    await received(socket, answer);
    await answersOthers();
    socket.destroy();
  });

  // The last test: it ends the server.
  it('does not keep the server from ending on SIGTERM', async () => {
    const socket = connect(where);
    await once(socket, 'data');
    socket.write(join([u32(3), options['NBD_OPT_GO']!('file').bytes, new Uint8Array(1)]));
    await received(socket, 52);
    server.child.kill('SIGTERM');
    expect(await server.ended).toEqual({ code: 0, signal: null });
    socket.destroy();
  });
});
