/**
 * `farbus certificates`: independent programs (openssl, libnbd, QEMU, nbdkit) accept what it makes,
 * in both roles; private files, additions, refusals.
 */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { makeCertificates } from '../../src/network/certificates/folder.node.js';
import { serverCertificates } from '../../src/network/tls-files.node.js';
import { farbusServe, freePort, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { tempFolder, tempImage, tempPath } from '../support/temp.js';
import { farbus } from './farbus.js';
import { run, succeed } from './nbd-target-farbus.js';

const size = 1 << 20;
const days = 100;
const make = (folder: string, hosts: string[], ...clients: string[]) =>
  makeCertificates(folder, { hosts, clients, days });
const read = (...path: string[]) => new X509Certificate(readFileSync(join(...path)));
const secured = ({ uri }: NbdPeer, folder: string) => `${uri.replace(/^nbd/, 'nbds')}?tls-certificates=${folder}`;

describe('with real programs', () => {
  let folder: string;
  let said: string;
  beforeAll(async () => {
    folder = join(tempFolder(), 'pki');
    const { code, stderr } = await farbus('certificates', folder, 'server.example.org', 'fe80::1', '--client', 'alice');
    expect(code, stderr).toBe(0);
    said = stderr;
  });

  it('names the files, and only their owner can read the keys', () => {
    expect(said).toContain(`${folder}/server-cert.pem: server server.example.org, fe80::1, localhost, 127.0.0.1, ::1`);
    expect(said).toContain(`${folder}/alice/client-cert.pem: client alice`);
    const mode = (...path: string[]) => statSync(join(folder, ...path)).mode & 0o777;
    expect([mode('.'), mode('alice')]).toEqual([0o700, 0o700]);
    for (const key of ['ca-key.pem', 'server-key.pem', 'client-key.pem', 'alice/client-key.pem']) {
      expect(mode(key), key).toBe(0o600);
    }
    expect(existsSync(join(folder, 'alice', 'ca-key.pem'))).toBe(false);
  });

  it.skipIf(missing('openssl'))('openssl verifies each certificate strictly', async () => {
    const verify = (purpose: string, path: string, ...more: string[]) =>
      succeed('openssl', 'verify', '-x509_strict', '-purpose', purpose, '-CAfile', join(folder, 'ca-cert.pem'), ...more,
        join(folder, path)); // prettier-ignore
    for (const name of ['server.example.org', 'localhost']) {
      await verify('sslserver', 'server-cert.pem', '-verify_hostname', name);
    }
    for (const ip of ['fe80::1', '127.0.0.1', '::1']) await verify('sslserver', 'server-cert.pem', '-verify_ip', ip);
    await verify('sslclient', 'client-cert.pem');
    await verify('sslclient', 'alice/client-cert.pem');
    await expect(verify('sslclient', 'server-cert.pem')).rejects.toThrow(/purpose/);
  });

  it.skipIf(missing('nbdcopy'))('libnbd and QEMU use farbus serve, which demands a certificate', async () => {
    const path = tempImage(Uint8Array.from({ length: size }, (_, index) => index % 251));
    const server = await farbusServe(await freePort(), 'disk.img', [
      ...['--tls-certificates', folder, '--tls-verify-peer', path],
    ]);
    const out = tempPath('out');
    await succeed('nbdcopy', secured(server, join(folder, 'alice')), out);
    expect(readFileSync(out).equals(readFileSync(path))).toBe(true);
    const { port } = server.place as { port: number };
    const image = `driver=nbd,host=localhost,port=${port},export=disk.img,tls-creds=t`;
    const object = `tls-creds-x509,id=t,dir=${folder},endpoint=client`;
    if (!missing('qemu-img')) await succeed('qemu-img', 'info', '--object', object, '--image-opts', image);
    const stranger = join(tempFolder(), 'pki');
    await make(stranger, []);
    writeFileSync(join(stranger, 'ca-cert.pem'), readFileSync(join(folder, 'ca-cert.pem')));
    expect((await run('nbdinfo', secured(server, stranger))).code).not.toBe(0);
    await server.kill('SIGTERM');
  });

  it.skipIf(missing('nbdkit'))('farbus copy uses nbdkit, which demands a certificate', async () => {
    const tls = ['--tls=require', `--tls-certificates=${folder}`, '--tls-verify-peer'];
    const server = await nbdkit(await freePort(), [...tls, 'pattern', String(size)]);
    const out = tempPath('out');
    const { code, stderr } = await farbus('copy', secured(server, join(folder, 'alice')), out);
    expect(code, stderr).toBe(0);
    expect(readFileSync(out).readBigUInt64BE(4096)).toBe(4096n);
    await server.kill('SIGTERM');
  });
});

describe('a folder that has a CA', () => {
  it('is extended by servers and clients; no file is replaced', async () => {
    const folder = join(tempFolder(), 'pki');
    await make(folder, ['one']);
    const before = readFileSync(join(folder, 'server-key.pem'), 'utf8');
    await make(folder, ['two', '192.0.2.2'], 'bob');
    const ca = read(folder, 'ca-cert.pem');
    for (const path of ['server-cert.pem', 'two/server-cert.pem', 'bob/client-cert.pem']) {
      expect(read(folder, path).verify(ca.publicKey), path).toBe(true);
    }
    expect(read(folder, 'two', 'server-cert.pem').checkIP('192.0.2.2')).toBe('192.0.2.2');
    expect(await serverCertificates(join(folder, 'two'), true)).toMatchObject({ ca: ca.toString() });
    const refused = async (wanted: RegExp, hosts: string[], ...clients: string[]) =>
      expect(make(folder, hosts, ...clients)).rejects.toThrow(wanted);
    await refused(/server-cert.pem exists and has these names: to replace it, delete it and server-key.pem/, ['one']);
    await refused(/two\/server-cert.pem exists: to replace it/, ['two', 'three']);
    await refused(/bob\/client-cert.pem exists: to replace it/, ['three'], 'carol', 'bob');
    await refused(/complete: give a HOST for another server, or --client NAME/, []);
    expect(existsSync(join(folder, 'three')) || existsSync(join(folder, 'carol'))).toBe(false);
    expect(readFileSync(join(folder, 'server-key.pem'), 'utf8')).toBe(before);
  });

  it('takes a server and a client of one name at once', async () => {
    const folder = join(tempFolder(), 'pki');
    await make(folder, []);
    await make(folder, ['node1'], 'node1');
    expect(readdirSync(join(folder, 'node1')).sort()).toEqual([
      ...['ca-cert.pem', 'client-cert.pem', 'client-key.pem', 'server-cert.pem', 'server-key.pem'],
    ]);
  });

  it('renews what was deleted, and asks for the missing half of a pair', async () => {
    const folder = join(tempFolder(), 'pki');
    await make(folder, []);
    rmSync(join(folder, 'client-cert.pem'));
    await expect(make(folder, [])).rejects.toThrow(/has client-key.pem without client-cert.pem/);
    rmSync(join(folder, 'client-key.pem'));
    expect((await make(folder, [])).pairs.map(({ role }) => role)).toEqual(['client']);
    rmSync(join(folder, 'ca-key.pem'));
    await expect(make(folder, ['host'])).rejects.toThrow(/has ca-cert.pem without ca-key.pem/);
  });

  it.skipIf(missing('openssl')).each([
    ['rsa:2048', '-sha256'],
    ['ec:secp384r1', '-sha384'],
  ])('may have been made by openssl (%s)', async (kind, digest) => {
    const folder = tempFolder();
    chmodSync(folder, 0o700);
    const [algorithm, which] = kind.split(':') as [string, string];
    const key = algorithm === 'ec' ? ['ec', '-pkeyopt', `ec_paramgen_curve:${which}`] : [kind];
    execFileSync('openssl', ['req', '-x509', '-nodes', digest, '-newkey', ...key, '-subj', '/O=A company/CN=its CA',
      '-days', '30', '-keyout', join(folder, 'ca-key.pem'), '-out', join(folder, 'ca-cert.pem')], { stdio: 'pipe' }); // prettier-ignore
    const { pairs } = await make(folder, ['host']);
    const ca = read(folder, 'ca-cert.pem');
    expect(pairs[0]!.until.getTime()).toBe(Date.parse(ca.validTo));
    await succeed('openssl', 'verify', '-CAfile', join(folder, 'ca-cert.pem'), pairs[0]!.path);
  });

  it('is refused if the CA has expired, or its key is of another CA', async () => {
    const [folder, other] = [join(tempFolder(), 'pki'), join(tempFolder(), 'pki')];
    await make(folder, []);
    await make(other, []);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3651 * 24 * 60 * 60 * 1000 });
    await expect(make(folder, ['host'])).rejects.toThrow(/ca-cert.pem has expired: make a new CA/);
    vi.useRealTimers();
    writeFileSync(join(folder, 'ca-key.pem'), readFileSync(join(other, 'ca-key.pem')));
    await expect(make(folder, ['host'])).rejects.toThrow(
      'the CA cannot sign: ca-key.pem is not the key of ca-cert.pem',
    );
  });
});

describe('refusals', () => {
  it.each(['a b', '10.0.0.300', 'host:10809', '-x', 'x..y', '*', '', 'fe80::1%eth0', '../x', 'a/b'])(
    'the host %j',
    async (host) => {
      const folder = join(tempFolder(), 'pki');
      await expect(make(folder, [host])).rejects.toThrow(/HOST is a host name or an IP address/);
      expect(existsSync(folder)).toBe(false);
    },
  );

  it.each(['', '.', '..', '../x', 'a/b', '-x', 'a\nb', 'x'.repeat(65)])('the client %j', async (name) => {
    await expect(make(join(tempFolder(), 'pki'), [], name)).rejects.toThrow(/--client/);
  });

  it('a folder in which others can write, or a file', async () => {
    const folder = tempPath('pki');
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    await expect(make(folder, [])).rejects.toThrow(/other users can write to .*: run chmod go-w/);
    await expect(make(tempImage(1), [])).rejects.toThrow(/is not a folder/);
    await expect(make('/proc/none/pki', [])).rejects.toThrow(/cannot write the certificates/);
  });
});

it('long validity: dates from 2050 on are understood', async () => {
  const folder = join(tempFolder(), 'pki');
  const { pairs } = await makeCertificates(folder, { hosts: [], clients: [], days: 36_500 });
  expect(Date.parse(read(folder, 'server-cert.pem').validTo)).toBe(pairs[0]!.until.getTime());
  expect(pairs[0]!.until.getUTCFullYear()).toBeGreaterThan(2100);
});
