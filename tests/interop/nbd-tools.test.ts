/**
 * Independent programs as clients of `farbus serve`, each over TCP, a unix socket, and both with
 * TLS. Details are tested in nbd-target.test.ts, tls.test.ts, fio-verify.test.ts and
 * nbd-linux.test.ts (Linux's own client).
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { farbusServe, freePort, freeSocket, missing, type NbdPeer } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';
import { authority, noOpenssl, type Authority } from '../support/tls-certificates.js';
import { run, succeed } from './nbd-target-farbus.js';

const MiB = 1 << 20;
const size = 4 * MiB;
const withoutTls = noOpenssl();

/** libnbd's Python module works only with Debian's own Python, even if another one is installed. */
const nbdsh = (...words: string[]) => succeed('env', 'PATH=/usr/bin:/bin', 'nbdsh', ...words);
/** Every kind of request, made by a libnbd program; `uri` is set. */
const shell = `
h.set_uri_allow_local_file(True)
h.add_meta_context("base:allocation")
h.connect_uri(uri)
assert h.get_size() == ${size}, h.get_size()
assert h.get_structured_replies_negotiated()
assert h.can_multi_conn() and h.can_fua() and h.can_zero() and h.can_fast_zero() and h.can_cache()
assert h.get_tls_negotiated() == (uri.startswith("nbds"))
data = bytes(i * 7 % 251 for i in range(65536))
h.pwrite(data, 1048576)
h.pwrite(data, 2097152, nbd.CMD_FLAG_FUA)
assert h.pread(65536, 1048576) == data
h.zero(4096, 1048576, nbd.CMD_FLAG_NO_HOLE)
h.trim(1048576, 3145728)
h.cache(1048576, 0)
h.flush()
assert h.pread(8192, 1048576) == bytes(4096) + data[4096:8192]
chunks = []
h.pread_structured(65536, 2097152, lambda *chunk: chunks.append(bytes(chunk[0])))
assert sum(map(len, chunks)) == 65536
seen = []
h.block_status(${size}, 0, lambda context, offset, entries, error: seen.append((context, entries)))
assert seen and seen[0][0] == "base:allocation" and sum(seen[0][1][0::2]) == ${size}, seen
try:
    h.pread(512, ${size})
    assert False
except nbd.Error as error:
    assert error.errno == "EINVAL", error
h.shutdown()
`;

describe.each(['tcp', 'unix', 'tls', 'tls-unix'])('farbus serve over %s', (way) => {
  const tls = way.startsWith('tls');
  const path = tempPath('disk.img');
  const image = tempPath('image.img');
  let server: NbdPeer;
  let pki: Authority | undefined;

  beforeAll(async () => {
    if (tls && withoutTls) return;
    writeFileSync(path, randomBytes(size));
    // Image formats are the client's business: the file is served as it is.
    writeFileSync(image, new Uint8Array(size));
    pki = tls ? authority() : undefined;
    const place = way.endsWith('unix') ? freeSocket() : await freePort();
    const security = pki ? ['--tls-certificates', pki.folder] : [];
    server = await farbusServe(place, 'disk', [...security, `disk=${path}`, `image=${image}`]);
  });
  afterAll(() => server.kill('SIGTERM'));

  /** The URI of an export for libnbd's programs. */
  const uriOf = (name = 'disk'): string => {
    const uri = new URL(server.uri.replace(/^nbd/, tls ? 'nbds' : 'nbd').replace('disk', name));
    if (pki) uri.searchParams.set('tls-certificates', pki.clientFolder());
    if (pki && way.endsWith('unix')) uri.searchParams.set('tls-hostname', 'localhost');
    return uri.href.replaceAll('%2F', '/');
  };

  /** Options that define an export for QEMU's programs, and the name by which they refer to it. */
  const qemu = (name = 'disk', format = 'raw'): { options: string[]; at: string } => {
    const { place } = server;
    const where =
      'path' in place ? `unix,server.path=${place.path}` : `inet,server.host=127.0.0.1,server.port=${place.port}`;
    const secure = pki ? ',file.tls-creds=t,file.tls-hostname=localhost' : '';
    const credentials = pki ? ['--object', `tls-creds-x509,id=t,dir=${pki.clientFolder()},endpoint=client`] : [];
    const to = `file.server.type=${where.replaceAll('server.', 'file.server.')}`;
    return {
      options: [...credentials, '--image-opts'],
      at: `driver=${format},file.driver=nbd,${to},file.export=${name}${secure}`,
    };
  };

  describe.skipIf((tls && withoutTls) || missing('nbdinfo'))('libnbd', () => {
    it('nbdinfo', async () => {
      expect(await succeed('nbdinfo', '--map', uriOf())).toMatch(/^ *0 +4194304 +0 +data$/m);
      const list = await succeed('nbdinfo', '--list', '--json', uriOf());
      const { exports } = JSON.parse(list) as { exports: { 'export-name': string }[] };
      expect(exports.map((one) => one['export-name'])).toEqual(['disk', 'image']);
      for (const can of ['multi-conn', 'fua', 'flush', 'trim', 'zero', 'fast-zero', 'cache']) {
        expect((await run('nbdinfo', '--can', can, uriOf())).code, can).toBe(0);
      }
    });

    it('nbdcopy over several connections, flushed', async () => {
      const source = tempPath('source');
      writeFileSync(source, randomBytes(size));
      await succeed('nbdcopy', '--flush', '--connections=4', '--requests=16', source, uriOf());
      expect(readFileSync(path).equals(readFileSync(source))).toBe(true);
      const back = tempPath('back');
      await succeed('nbdcopy', '--connections=4', '--requests=16', uriOf(), back);
      expect(readFileSync(back).equals(readFileSync(source))).toBe(true);
    });

    it.skipIf(missing('nbddump'))('nbddump', async () => {
      const bytes = readFileSync(path).subarray(0, 8);
      const dump = await succeed('nbddump', '--length=512', uriOf());
      expect(dump).toContain([...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' '));
    });

    it.skipIf(missing('nbdsh'))('nbdsh with every request', async () => {
      await nbdsh('-c', `uri = ${JSON.stringify(uriOf())}`, '-c', shell);
      const bytes = readFileSync(path);
      expect([...bytes.subarray(2 * MiB, 2 * MiB + 4)]).toEqual([0, 7, 14, 21]);
      expect(bytes.subarray(MiB, MiB + 4096).every((byte) => byte === 0)).toBe(true);
    });
  });

  describe.skipIf((tls && withoutTls) || missing('qemu-img') || missing('qemu-io'))('QEMU', () => {
    it('qemu-io', async () => {
      const { options, at } = qemu();
      const commands = ['write -P 0x5a 1M 64k', 'write -f -P 0xa5 2M 4k', 'write -z 1M 32k', 'discard 3M 1M', 'flush'];
      const reads = ['read -P 0 1M 32k', 'read -P 0x5a 1056k 32k', 'read -P 0xa5 2M 4k'];
      const words = [...commands, ...reads].flatMap((command) => ['-c', command]);
      const output = await succeed('qemu-io', ...options, ...words, at);
      expect(output).not.toMatch(/fail|error|differ/i);
      expect(
        readFileSync(path)
          .subarray(2 * MiB, 2 * MiB + 4096)
          .every((byte) => byte === 0xa5),
      ).toBe(true);
    });

    it('qemu-img convert, check and compare, with an image of its own format inside', async () => {
      const source = tempPath('source');
      writeFileSync(source, Buffer.concat([randomBytes(MiB), new Uint8Array(size - MiB)]));
      const qcow2 = tempPath('source.qcow2');
      await succeed('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', source, qcow2);
      writeFileSync(image, Buffer.concat([readFileSync(qcow2), new Uint8Array(size)]).subarray(0, size));
      const inside = qemu('image', 'qcow2');
      expect(await succeed('qemu-img', 'check', ...inside.options, inside.at)).toContain('No errors were found');
      const disk = qemu();
      await succeed('qemu-img', 'convert', '-n', ...disk.options, '--target-image-opts', inside.at, disk.at);
      const compare = ['compare', ...inside.options, inside.at, disk.at];
      expect(await succeed('qemu-img', ...compare)).toContain('Images are identical');
      const out = tempPath('out');
      await succeed('qemu-img', 'convert', ...disk.options, '-O', 'raw', disk.at, out);
      expect(readFileSync(out).equals(readFileSync(path))).toBe(true);
      await succeed('qemu-io', ...disk.options, '-c', 'write -P 1 0 512', disk.at);
      expect((await run('qemu-img', ...compare)).stdout).toContain('Content mismatch at offset 0!');
    });
  });
});
