/**
 * TLS with independent peers: nbdkit, libnbd's and QEMU's tools, certificates and pre-shared keys,
 * TCP and unix sockets, both roles; and connections that must fail.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { readBytes, writeBytes } from '../../src/conformance/subject.js';
import { conformance } from '../conformance/suite.js';
import { farbusServe, freePort, freeSocket, missing, nbdkit, NbdPeer, type Place } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { authority, keyFile, noOpenssl, type Authority } from '../support/tls-certificates.js';
import { run, succeed } from './nbd-target-farbus.js';

const size = 4 << 20;
const without = noOpenssl();

function image(): string {
  const path = tempPath('disk.img');
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 4096) bytes.fill((at >> 12) & 0xff, at, at + 2048);
  writeFileSync(path, bytes);
  return path;
}

const digest = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

/** The URI of a server's export with TLS and these parameters. */
function secured(server: NbdPeer, parameters: Readonly<Record<string, string>>, host = '127.0.0.1'): string {
  const uri = new URL(server.uri.replace(/^nbd/, 'nbds').replace('127.0.0.1', host));
  for (const [name, value] of Object.entries(parameters)) uri.searchParams.set(name, value);
  return uri.href.replaceAll('%2F', '/');
}

let pki: Authority;
let keys: string;
beforeAll(() => {
  if (without) return;
  pki = authority();
  keys = keyFile('alice', 'bob');
});

/** A folder in the form that GnuTLS's programs expect, for a client without a certificate. */
const clientOnly = (): string => pki.clientFolder();

describe.skipIf(without)('farbus serve over TLS', () => {
  const serve = (path: string, place: Place, ...args: string[]) => farbusServe(place, 'disk.img', [...args, path]);

  describe.skipIf(missing('nbdinfo'))("libnbd's tools", () => {
    it.each(['tcp', 'unix'])('certificates: information, a copy in and out, over %s', async (kind) => {
      const path = image();
      const place = kind === 'tcp' ? await freePort() : freeSocket();
      const server = await serve(path, place, '--tls-certificates', pki.folder);
      const uri = secured(server, { 'tls-certificates': clientOnly() });
      expect(await succeed('nbdinfo', uri)).toMatch(/export-size: 4194304/);
      expect(await succeed('nbdinfo', '--list', uri)).toMatch(/export="disk.img"/);
      const out = tempPath('out');
      await succeed('nbdcopy', uri, out);
      expect(digest(out)).toBe(digest(path));
      const bytes = new Uint8Array(size).fill(0x5a);
      writeFileSync(out, bytes);
      await succeed('nbdcopy', '--flush', '--connections=2', out, uri);
      expect(digest(path)).toBe(digest(out));
      await server.kill('SIGTERM');
    });

    it('pre-shared keys', async () => {
      const path = image();
      const server = await serve(path, await freePort(), '--tls-psk', keys);
      const out = tempPath('out');
      await succeed('nbdcopy', secured(server, { 'tls-psk-file': keys }, 'alice@127.0.0.1'), out);
      expect(digest(out)).toBe(digest(path));
      const others = keyFile('alice');
      expect((await run('nbdinfo', secured(server, { 'tls-psk-file': others }, 'alice@127.0.0.1'))).code).not.toBe(0);
      const strangers = keyFile('mallory');
      expect((await run('nbdinfo', secured(server, { 'tls-psk-file': strangers }, 'mallory@127.0.0.1'))).code).not.toBe(
        0,
      );
      await server.kill('SIGTERM');
    });

    it('a client needs a certificate of the right signer if the server demands one', async () => {
      const server = await serve(image(), await freePort(), '--tls-certificates', pki.folder, '--tls-verify-peer');
      const tried = (folder: string) => run('nbdinfo', secured(server, { 'tls-certificates': folder }));
      expect((await tried(pki.folder)).code).toBe(0);
      expect((await tried(clientOnly())).code).not.toBe(0);
      const stranger = authority('another CA').clientFolder('alice');
      copyFileSync(join(pki.folder, 'ca-cert.pem'), join(stranger, 'ca-cert.pem'));
      expect((await tried(stranger)).code).not.toBe(0);
      expect((await tried(pki.folder)).code).toBe(0);
      await server.kill('SIGTERM');
    });

    it('without TLS a server that requires it reveals nothing, and another one works', async () => {
      const path = image();
      const strict = await serve(path, await freePort(), '--tls-certificates', pki.folder);
      const refused = await run('nbdinfo', '--list', strict.uri);
      expect(refused.code).not.toBe(0);
      expect(refused.stdout + refused.stderr).not.toMatch(/disk.img/);
      await strict.kill('SIGTERM');
      const open = await serve(path, await freePort(), '--tls-certificates', pki.folder, '--tls', 'on');
      expect(await succeed('nbdinfo', open.uri)).toMatch(/protocol: .* without TLS/);
      const uri = secured(open, { 'tls-certificates': clientOnly() });
      expect(await succeed('nbdinfo', uri)).toMatch(/protocol: .* with TLS/);
      await open.kill('SIGTERM');
    });
  });

  describe.skipIf(missing('qemu-img'))('qemu-img', () => {
    const options = (server: NbdPeer) => {
      const { port } = server.place as { port: number };
      return `driver=nbd,host=127.0.0.1,port=${port},export=disk.img,tls-creds=t`;
    };

    it('compares and converts with certificates', async () => {
      const path = image();
      const server = await serve(path, await freePort(), '--tls-certificates', pki.folder, '--tls-verify-peer');
      const object = `tls-creds-x509,id=t,dir=${pki.folder},endpoint=client`;
      const out = tempPath('out');
      await succeed('qemu-img', 'convert', '--object', object, '--image-opts', options(server), '-O', 'raw', out);
      expect(digest(out)).toBe(digest(path));
      await server.kill('SIGTERM');
    });

    it('with pre-shared keys', async () => {
      const path = image();
      const server = await serve(path, await freePort(), '--tls-psk', keys);
      const folder = tempFolder();
      copyFileSync(keys, join(folder, 'keys.psk'));
      const object = `tls-creds-psk,id=t,dir=${folder},username=bob,endpoint=client`;
      const out = tempPath('out');
      await succeed('qemu-img', 'convert', '--object', object, '--image-opts', options(server), '-O', 'raw', out);
      expect(digest(out)).toBe(digest(path));
      await server.kill('SIGTERM');
    });
  });
});

/** Opens, writes, reads and flushes. Resolves with the data that was read. */
async function exercise(uri: string): Promise<void> {
  const device = await openNbd(uri, { reconnectSeconds: 0 });
  try {
    const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => (index * 31) >> 3);
    await writeBytes(device, 4096, bytes);
    await device.flush();
    expect(Buffer.compare(await readBytes(device, 4096, bytes.length), bytes)).toBe(0);
  } finally {
    await device.close();
  }
}

describe.skipIf(without)('the initiator over TLS', () => {
  const servers: [string, string, (place: Place, ...tls: string[]) => Promise<NbdPeer>][] = [
    ['farbus serve', '', (place, ...tls) => farbusServe(place, 'disk.img', [...tls, image()])],
    ['nbdkit', 'nbdkit', (place, ...tls) => nbdkit(place, [...tls, '--tls=require', 'memory', '4M'])],
  ];
  describe.each(servers)('%s', (_name, program, start) => {
    describe.skipIf(program !== '' && missing(program))('as the server', () => {
      it.each(['tcp', 'unix'])('certificates over %s', async (kind) => {
        const place = kind === 'tcp' ? await freePort() : freeSocket();
        const server = await start(place, `--tls-certificates=${pki.folder}`);
        await exercise(secured(server, { 'tls-certificates': clientOnly() }));
        if (kind === 'unix') {
          const named = { 'tls-certificates': clientOnly(), 'tls-hostname': 'localhost' };
          await exercise(secured(server, named));
          await expect(exercise(secured(server, { ...named, 'tls-hostname': 'elsewhere' }))).rejects.toThrow(
            /TLS failed/,
          );
        }
        await server.kill();
      });

      it('certificates on both sides', async () => {
        const server = await start(await freePort(), `--tls-certificates=${pki.folder}`, '--tls-verify-peer');
        await exercise(secured(server, { 'tls-certificates': pki.folder }));
        await exercise(secured(server, { 'tls-certificates': pki.clientFolder('bob') }));
        const without = exercise(secured(server, { 'tls-certificates': clientOnly() }));
        await expect(without).rejects.toThrow(/TLS failed: .*client certificate|TLS failed|closed the connection/);
        if (program === '') await expect(without).rejects.toThrow(/give client-cert\.pem and its key$/);
        await exercise(secured(server, { 'tls-certificates': pki.folder }));
        await server.kill();
      });

      it('pre-shared keys', async () => {
        const server = await start(await freePort(), `--tls-psk=${keys}`);
        await exercise(secured(server, { 'tls-psk-file': keys }, 'alice@127.0.0.1'));
        await exercise(secured(server, { 'tls-psk-file': keys, 'tls-username': 'bob' }));
        const wrong = exercise(secured(server, { 'tls-psk-file': keyFile('bob') }, 'bob@127.0.0.1'));
        await expect(wrong).rejects.toThrow(program === '' ? /have different keys for this user$/ : /TLS failed/);
        await server.kill();
      });

      it('does not talk to a server that it cannot trust', async () => {
        const server = await start(await freePort(), `--tls-certificates=${pki.serverFolder('DNS:elsewhere')}`);
        const trust = { 'tls-certificates': clientOnly() };
        await expect(exercise(secured(server, trust))).rejects.toThrow(
          /certificate has another name: give the right one as tls-hostname/,
        );
        await exercise(secured(server, { ...trust, 'tls-hostname': 'elsewhere' }));
        const stranger = authority('another CA').clientFolder();
        const message = /TLS failed: the other side has a certificate of an unknown signer/;
        await expect(exercise(secured(server, { 'tls-certificates': stranger }))).rejects.toThrow(message);
        await expect(exercise(secured(server, {}))).rejects.toThrow(message);
        await exercise(secured(server, { 'tls-certificates': stranger, 'tls-verify-peer': '0' }));
        await expect(openNbd(server.uri)).rejects.toThrow(/demands TLS: write nbds:\/\//);
        await server.kill();
      });
    });
  });

  if (!without) {
    conformance('farbus serve over TLS, two connections', async () => {
      const server = await farbusServe(freeSocket(), 'disk.img', ['--tls-psk', keys, image()]);
      const uri = secured(server, { 'tls-psk-file': keys, 'tls-username': 'alice', 'x-connections': '2' });
      return { device: await openNbd(uri), cleanup: () => server.kill() };
    });
  }

  it('a server that was stopped and continues: the old connection is reset, the new one is encrypted too', async () => {
    const server = await farbusServe(await freePort(), 'disk.img', ['--tls-certificates', pki.folder, image()]);
    const states: string[] = [];
    const device = await openNbd(secured(server, { 'tls-certificates': clientOnly() }), {
      stallSeconds: 0.4,
      connectSeconds: 0.5,
      onState: (state) => states.push(state),
    });
    const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => index * 5);
    server.signal('SIGSTOP');
    const write = writeBytes(device, 0, bytes);
    while (!states.includes('reconnecting')) await new Promise((resolve) => setTimeout(resolve, 20));
    server.signal('SIGCONT');
    await write;
    expect(Buffer.compare(await readBytes(device, 0, bytes.length), bytes)).toBe(0);
    await device.close();
    await server.kill('SIGTERM');
  });

  it.skipIf(missing('nbdkit'))('a server without TLS is not used', async () => {
    const server = await nbdkit(await freePort(), ['--tls=off', 'memory', '4M']);
    const uri = secured(server, { 'tls-certificates': clientOnly() });
    await expect(exercise(uri)).rejects.toThrow(/the server refuses TLS/);
    await server.kill();
  });

  describe.skipIf(missing('qemu-nbd'))('qemu-nbd', () => {
    const start = (place: { port: number }, object: string) => {
      const args = ['--object', object, '--tls-creds', 't', '--persistent', '--format', 'raw', '--export-name', 'disk'];
      const where = ['--bind', '127.0.0.1', '--port', String(place.port)];
      return new NbdPeer('qemu-nbd', [...args, ...where, image()], place, 'disk').start();
    };

    it('with certificates on both sides', async () => {
      const object = `tls-creds-x509,id=t,dir=${pki.folder},endpoint=server,verify-peer=on`;
      const server = await start(await freePort(), object);
      await exercise(secured(server, { 'tls-certificates': pki.folder }));
      await server.kill();
    });

    it('with pre-shared keys', async () => {
      const folder = tempFolder();
      mkdirSync(join(folder, 'psk'));
      copyFileSync(keys, join(folder, 'psk', 'keys.psk'));
      const server = await start(await freePort(), `tls-creds-psk,id=t,dir=${join(folder, 'psk')},endpoint=server`);
      await exercise(secured(server, { 'tls-psk-file': keys }, 'alice@127.0.0.1'));
      await server.kill();
    });
  });
});
