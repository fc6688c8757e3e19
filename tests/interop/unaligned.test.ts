/**
 * `farbus serve` with clients that access single bytes, on every kind of export, by libnbd without
 * its own checks.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freeSocket, missing, nbdkit } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { authority, noOpenssl } from '../support/tls-certificates.js';
import { farbusServe, stop, succeed } from './nbd-target-farbus.js';

/**
 * Accesses single bytes, neighbours concurrently, and the last bytes, with and without NBD_OPT_GO.
 */
const script = `
import random
for uri in uris:
  for flags in (3,) if pki else (3, 0):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_handshake_flags(flags)
    h.set_tls_certificates(pki) if pki else None
    h.connect_uri(uri)
    size = h.get_size()
    model = bytearray(b''.join(h.pread(min(65536, size - at), at) for at in range(0, size, 65536)))
    assert h.pread(1, 3) == model[3:4], uri
    assert h.pread(3, size - 3) == model[-3:], uri
    h.pwrite(b'xyz', 4097)
    model[4097:4100] = b'xyz'
    h.pwrite(b'!', size - 1)
    model[-1:] = b'!'
    h.zero(5, 4103)
    model[4103:4108] = bytes(5)
    h.pwrite(b'fua', 511, nbd.CMD_FLAG_FUA)
    model[511:514] = b'fua'
    if h.can_trim():
      h.trim(3, 513)
    at = 600
    cookies = []
    while at < 30000:
      length = random.choice([1, 2, 3, 100, 511, 512, 513, 1025, 4096 - at % 4096, 512 - at % 512])
      data = bytes(random.randrange(256) for _ in range(length))
      if random.random() < 0.2:
        data = bytes(length)
        cookies.append(h.aio_zero(length, at))
      else:
        cookies.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), at))
      model[at:at + length] = data
      at += length
    while cookies:
      cookies = [c for c in cookies if not h.aio_command_completed(c)]
      if cookies:
        h.poll(-1)
    # A trimmed range reads as anything.
    model[513:516] = h.pread(3, 513)
    for at, length in ((0, 32768), (1, 32768), (size - 70001, 70001), (4099, 1)):
      assert h.pread(length, at) == model[at:at + length], (uri, flags, at)
    h.flush()
    h.shutdown()
`;

const size = (1 << 20) + 512;

function image(name: string, length = size): string {
  const path = join(tempFolder(), name);
  writeFileSync(path, randomBytes(length));
  return path;
}

async function check(uris: readonly string[], pki?: string): Promise<void> {
  const given = `uris = ${JSON.stringify(uris)}; pki = ${pki === undefined ? 'None' : JSON.stringify(pki)}`;
  await succeed('env', 'PATH=/usr/bin:/bin', 'nbdsh', '-c', given, '-c', script);
}

/** Serves `sources` on a unix socket, and runs the client on each export. */
async function serveAndCheck(sources: readonly string[], ...options: readonly string[]): Promise<void> {
  const socket = freeSocket().path;
  const serving = await farbusServe(
    [...sources, '--listen', `nbd+unix:///?socket=${socket}`, ...options],
    sources.length,
  );
  await check(serving.lines);
  expect(await stop(serving)).toBe(0);
  expect(serving.errors()).toBe('');
}

describe.skipIf(missing('nbdsh'))('single bytes', () => {
  it('of files, of odd length too, of parts of them, and through an overlay and a cache', async () => {
    const disk = image('disk.img', 4 << 20);
    execFileSync('sfdisk', ['-q', disk], { input: 'start=2048,size=2048\n', stdio: ['pipe', 'ignore', 'inherit'] });
    const odd = image('odd.img', size + 3);
    const content = readFileSync(odd);
    await serveAndCheck([
      `file=${image('file.img')}`,
      `odd=${odd}`,
      `partition=${disk},partition=1`,
      `slice=${image('slice.img')},offset=513,size=200001`,
      `overlay=${image('base.img', size + 3)},overlay=${tempPath('overlay')}`,
      `cache=${image('cached.img', size + 3)},cache=${tempPath('cache')}`,
    ]);
    const after = readFileSync(odd);
    expect(after.length).toBe(content.length);
    expect(after.subarray(40_000, -1).equals(content.subarray(40_000, -1))).toBe(true);
  });

  it.skipIf(missing('nbdkit'))(
    'of what has larger blocks: a gateway, and an overlay and a cache over one',
    async () => {
      const serve = async (block: string): Promise<string> => {
        const filter = ['--filter=blocksize-policy', 'memory', '2M', `blocksize-minimum=${block}`];
        return (await nbdkit(freeSocket(), [...filter, 'blocksize-error-policy=error'])).uri;
      };
      const [first, second] = [await serve('512'), await serve('4096')];
      const sources = [
        `gateway=${first}`,
        `large=${second}`,
        `overlay=${first},overlay=${tempPath('overlay')}`,
        `cache=${second},cache=${tempPath('cache')}`,
      ];
      await serveAndCheck(sources);
      await serveAndCheck(sources.slice(0, 2), '--one-writer', '--metrics', '0');
      await serveAndCheck(sources.slice(0, 1), '--rate', '50M');
    },
  );

  const noLoop = cannotLoop();
  if (noLoop !== undefined) console.error(`SKIPPED: single bytes of block devices: ${noLoop}`);
  it.skipIf(noLoop !== undefined)('of block devices, whose sector size is still reported', async () => {
    const disks = [512, 4096].map((sector) =>
      attachLoop(image(`${sector}.img`, 1 << 20), '--sector-size', `${sector}`),
    );
    await serveAndCheck(disks);
    const socket = freeSocket().path;
    const serving = await farbusServe([disks[1]!, '--listen', `nbd+unix:///?socket=${socket}`]);
    expect(await succeed('nbdinfo', serving.lines[0]!)).toMatch(/block_size_minimum: 4096/);
    expect(await stop(serving)).toBe(0);
  });

  it('files report a block size of one byte', async () => {
    const socket = freeSocket().path;
    const serving = await farbusServe([image('file.img'), '--listen', `nbd+unix:///?socket=${socket}`]);
    const info = await succeed('nbdinfo', serving.lines[0]!);
    expect(info).toMatch(/block_size_minimum: 1\n/);
    expect(info).toMatch(/block_size_preferred: 4096/);
    expect(await stop(serving)).toBe(0);
  });

  it.skipIf(noOpenssl())('over TLS', async () => {
    const pki = authority();
    const source = image('file.img');
    const listen = ['--listen', 'nbd://127.0.0.1:0', '--tls-certificates', pki.folder];
    const serving = await farbusServe([source, ...listen]);
    await check([serving.lines[0]!], pki.clientFolder());
    expect(await stop(serving)).toBe(0);
  });
});
