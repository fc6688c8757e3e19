import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { FarbusError, messageOf } from '../../src/base/errors.js';
import { unpackKernel, unpackPayload } from '../../src/guest/kernel.node.js';
import { needTools, runTool } from '../../src/guest/tools.node.js';
import { tempFolder } from '../support/temp.js';
import { bzImage, packed, vmlinux } from './guest-kernel.js';
import { failure } from './guest-server.js';

async function message(file: Uint8Array): Promise<string> {
  const error = await failure(unpackPayload(file, 'the-kernel'));
  expect(error).toBeInstanceOf(FarbusError);
  expect(error.message).not.toContain('\n');
  return error.message;
}

describe('unpackPayload', () => {
  test.each(['xz', 'gzip', 'zstd', 'LZ4', 'none'] as const)('takes the kernel out of a bzImage: %s', async (format) => {
    expect(Buffer.compare(await unpackPayload(bzImage(packed(format)), 'k'), vmlinux)).toBe(0);
  });

  test('reads 0 sectors of setup as 4', async () => {
    expect(Buffer.compare(await unpackPayload(bzImage(packed('gzip'), 0), 'k'), vmlinux)).toBe(0);
  });

  test('says which format it does not know', async () => {
    expect(await message(bzImage(Buffer.from('5d00000000000000ff', 'hex')))).toMatch(/packed in LZMA, which is not/);
    expect(await message(bzImage(Buffer.from('1234567800000000ff', 'hex')))).toMatch(/packed in an unknown format/);
  });

  test('refuses files that are not kernels', async () => {
    expect(await message(Buffer.alloc(0))).toBe('the-kernel is not a Linux kernel for x86 (a bzImage)');
    expect(await message(Buffer.alloc(100_000))).toBe('the-kernel is not a Linux kernel for x86 (a bzImage)');
    const old = bzImage(packed('gzip'));
    old.writeUInt16LE(0x0207, 0x206);
    expect(await message(old)).toMatch(/boot protocol must be 2.08/);
  });

  test.each<[string, (file: Buffer) => Buffer]>([
    ['is cut', (file) => file.subarray(0, file.length - 1000)],
    ['has a payload beyond its end', (file) => (file.writeUInt32LE(0xffffffff, 0x24c), file)],
    ['has an empty payload', (file) => (file.writeUInt32LE(0, 0x24c), file)],
    ['was changed within', (file) => (file.fill(0xff, 2150, 2200), file)],
    ['was changed at its payload’s end', (file) => (file.fill(1, file.length - 104, file.length - 100), file)],
  ])('refuses a kernel that %s', async (_what, damage) => {
    for (const format of ['xz', 'gzip', 'zstd'] as const) {
      expect(await message(damage(bzImage(packed(format)))), format).toBe(
        'the kernel the-kernel is damaged: get it again',
      );
    }
  });

  test('refuses LZ4 whose lengths and distances lead out of the data or the content', async () => {
    const good = packed('LZ4');
    for (let i = 0; i < 400; i++) {
      const bad = Buffer.from(good);
      const at = 4 + ((i * 7919) % (bad.length - 8));
      bad[at] = (i * 193) & 0xff;
      // A damaged byte may be one of the content, which has no checksum. The size is always right.
      const result = await unpackPayload(bzImage(bad), 'k').then((file) => file.length, messageOf);
      expect([vmlinux.length, 'the kernel k is damaged: get it again']).toContain(result);
    }
  });

  test("does not unpack more than the payload's stated length", async () => {
    for (const [format, words] of [
      ['xz', /is damaged/],
      ['zstd', /gave more than 1000 bytes/],
    ] as const) {
      const bomb = packed(format, Buffer.alloc(8 << 20));
      bomb.writeUInt32LE(1000, bomb.length - 4);
      expect(await message(bzImage(bomb))).toMatch(words);
    }
  });

  test('refuses a payload that is no ELF file', async () => {
    expect(await message(bzImage(packed('gzip', Buffer.alloc(1000))))).toMatch(/is damaged/);
  });

  test('names the file that it cannot read', async () => {
    const file = join(tempFolder(), 'none');
    expect((await failure(unpackKernel(file))).message).toBe(`cannot read the kernel ${file} (ENOENT)`);
  });
});

describe('programs', () => {
  afterEach(() => void vi.unstubAllEnvs());

  test('that are missing are named with the packages to install', () => {
    vi.stubEnv('PATH', '/nowhere');
    expect(() => needTools('mcopy', 'zstd', 'fsck.vfat')).toThrow(
      /^(mcopy and zstd|mcopy and zstd and fsck.vfat) are not installed: install mtools and zstd.* \(these are the names in Debian\)$/,
    );
    const folder = tempFolder();
    writeFileSync(join(folder, 'apt-get'), '', { mode: 0o755 });
    vi.stubEnv('PATH', folder);
    expect(() => needTools('mcopy')).toThrow('mcopy is not installed: run "sudo apt-get install mtools"');
  });

  test('that hang are ended', async () => {
    const waiting = runTool('zstd', ['-b1', '-i100'], { timeoutMs: 100 });
    expect((await failure(waiting)).message).toBe('zstd took longer than 0.1 s');
  });

  test('are ended when cancelled', async () => {
    const stop = new AbortController();
    const waiting = runTool('zstd', ['-b1', '-i100'], { signal: stop.signal });
    stop.abort();
    expect((await failure(waiting)).message).toBe('zstd was stopped');
  });
});
