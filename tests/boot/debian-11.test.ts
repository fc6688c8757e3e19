/**
 * Unmodified Debian 11 with Linux 5.10 on a far disk: its NVMe driver differs from that of the
 * other guests.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { execute, farbusFile } from '../interop/farbus.js';
import { farbusServe, freePort, missing } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';

const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

describe.skipIf(missing('mkfs.ext4'))('Debian 11', () => {
  it('reads a file of a far disk and writes another', async () => {
    const content = tempFolder();
    const known = randomBytes(700_000);
    mkdirSync(join(content, 'files'));
    writeFileSync(join(content, 'files/known'), known);
    const image = tempPath('disk.img');
    writeFileSync(image, '');
    truncateSync(image, 32 << 20);
    execFileSync('mkfs.ext4', ['-q', '-F', '-d', content, image], { env });
    const server = await farbusServe(await freePort(), 'disk', [`disk=${image}`]);
    onTestFinished(() => server.kill());

    const script =
      'uname -r; mount /dev/nvme0n1 /mnt && sha256sum </mnt/files/known && cp /mnt/files/known /mnt/copy && umount /mnt';
    const run = ['run', '--debian', '11', '--drive', server.uri, '--exec', script];
    const { code, stdout, stderr } = await execute(process.execPath, [farbusFile, ...run], 280_000);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^5\.10\./m);
    expect(stdout).toContain(createHash('sha256').update(known).digest('hex'));

    await server.kill('SIGTERM');
    execFileSync('e2fsck', ['-f', '-n', image], { env, stdio: 'pipe' });
    const options = { env, maxBuffer: 1 << 22, stdio: ['ignore', 'pipe', 'ignore'] as ['ignore', 'pipe', 'ignore'] };
    expect(known.equals(execFileSync('debugfs', ['-R', 'cat /copy', image], options))).toBe(true);
  }, 300_000);
});
