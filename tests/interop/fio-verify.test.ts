/**
 * fio writes a disk over NBD at depth 64 and verifies every block by its checksum (crc32c), over
 * TCP, a unix socket and TLS. TLS goes through `farbus attach`: libnbd refuses certificates named
 * in a URI unless the program allows them, and fio does not. FARBUS_FIO_BYTES sets the amount per
 * way; default 64 MiB, with FARBUS_TEST_ALL 10 GiB.
 */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { authority, noOpenssl, type Authority } from '../support/tls-certificates.js';
import { execute, farbusFile, startFarbus } from './farbus.js';

const MiB = 1 << 20;
const usual = process.env['FARBUS_TEST_ALL'] ? 10 * 1024 * MiB : 64 * MiB;
const bytes = Number(process.env['FARBUS_FIO_BYTES'] ?? usual);
/** Far more time than it takes, in ms. */
const patience = 60 * 60_000;

const ways: [name: string, listen: (folder: string) => string, pki?: () => Authority][] = [
  ['tcp', () => 'nbd://127.0.0.1:0'],
  ['unix', (folder) => `nbd+unix:///?socket=${folder}/nbd.sock`],
  ['tls', () => 'nbd://127.0.0.1:0', () => authority()],
];

describe.skipIf(missing('fio') || noOpenssl())(`fio verifies ${bytes / MiB} MiB`, () => {
  it.each(ways)('over %s', { timeout: patience }, async (name, listen, certificates) => {
    const folder = tempFolder();
    const path = join(folder, 'disk.img');
    writeFileSync(path, '');
    truncateSync(path, bytes);
    const pki = certificates?.().folder;
    const security = pki === undefined ? [] : ['--tls-certificates', pki];
    const server = startFarbus('serve', path, '--listen', listen(folder), ...security);
    const printed = (await server.printed(/^nbd.*$/m))[0];
    expect(printed.startsWith('nbds:')).toBe(name === 'tls');
    const uri = pki === undefined ? printed : '{nbd}';
    const job = ['--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=16k', '--iodepth=64', `--size=${bytes}`];
    const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0'];
    const args = ['--name=verify', ...job, ...verify, '--output-format=json'];
    const attach = [farbusFile, 'attach', `${printed}?tls-certificates=${pki}`, '--', 'fio'];
    const [program, before] = pki === undefined ? ['fio', []] : [process.execPath, attach];
    const { code, stdout, stderr } = await execute(program, [...before, ...args], patience);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
      jobs: { error: number; read: { io_bytes: number }; write: { io_bytes: number } }[];
    };
    expect(jobs[0]).toMatchObject({ error: 0, write: { io_bytes: bytes }, read: { io_bytes: bytes } });
    server.child.kill('SIGTERM');
    expect(await server.ended).toEqual({ code: 0, signal: null });
  });
});
