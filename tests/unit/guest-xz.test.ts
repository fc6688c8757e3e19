/** .xz files and Debian packages made by xz and dpkg-deb are unpacked without these programs. */
import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unpackXz } from '../../src/guest/archive/xz.js';
import { sha256 } from '../../src/guest/cache.node.js';
import type { FetchedPackage } from '../../src/guest/fetch.node.js';
import { filesBelow, unpackPackage } from '../../src/guest/unpack.node.js';
import { tempFolder } from '../support/temp.js';
import { Random } from '../../src/conformance/random.js';
import { failure } from './guest-server.js';

const node = readFileSync(process.execPath).subarray(0, 1 << 20);
const random = new Random(5);
/** Contents of several kinds: code, text, noise, and runs longer than any match. */
const contents: Record<string, Buffer> = {
  nothing: Buffer.alloc(0),
  'one byte': Buffer.from('x'),
  code: node,
  noise: Buffer.from(random.bytes(200_000)),
  runs: Buffer.concat([Buffer.alloc(1 << 20, 'ab'), Buffer.from(random.bytes(70_000)), Buffer.alloc(3 << 20)]),
};

function xz(input: Uint8Array, ...args: string[]): Buffer {
  return execFileSync('xz', ['-c', '-T1', ...args], { input, maxBuffer: 1 << 28 });
}

function unpack(file: Uint8Array): Buffer {
  // Each part is valid only until the next one.
  return Buffer.concat([...unpackAll(file)]);
}

function* unpackAll(file: Uint8Array): Generator<Uint8Array> {
  for (const part of unpackXz(file)) yield part.slice();
}

describe('unpackXz', () => {
  it.each([
    ['-0'],
    ['-9e'],
    ['--check=crc32', '--x86', '--lzma2=dict=1MiB'],
    ['--check=none', '--lzma2=dict=4KiB,lc=0,lp=4,pb=4'],
    ['--check=sha256', '--lzma2=preset=1,lc=4,lp=0,pb=0'],
    ['--block-size=300000', '--x86', '--lzma2=dict=64KiB,nice=5'],
  ])('unpacks what xz packs with %s', (...args: (string | undefined)[]) => {
    const options = args.filter((one) => one !== undefined);
    for (const [name, bytes] of Object.entries(contents)) {
      expect(unpack(xz(bytes, ...options)).equals(bytes), name).toBe(true);
    }
  });

  it('unpacks streams one after the other, with padding between them', () => {
    const file = Buffer.concat([xz(Buffer.from('one ')), Buffer.alloc(8), xz(Buffer.from('two'))]);
    expect(unpack(file).toString()).toBe('one two');
  });

  it('refuses other files, and never fails otherwise where bytes are wrong or missing', () => {
    expect(() => unpack(Buffer.from('something else'))).toThrow('it is not an .xz file');
    expect(() => unpack(xz(node.subarray(0, 9000), '--arm', '--lzma2'))).toThrow('the filter 7');
    const good = xz(node.subarray(0, 20_000), '--check=crc32', '--x86', '--lzma2=dict=4KiB');
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, value, length) => {
        const bytes = Uint8Array.from(good.subarray(0, length));
        if (at < length) bytes[at] = value;
        try {
          unpack(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 300 },
    );
    const flipped = Uint8Array.from(good);
    flipped[good.length >> 1]! ^= 4;
    expect(() => unpack(flipped)).toThrow(RangeError);
  });
});

describe('unpackPackage', () => {
  function deb(...args: string[]): FetchedPackage {
    const folder = tempFolder();
    const tree = join(folder, 'tree');
    for (const path of ['DEBIAN', 'usr/share/doc/t', 'usr/bin', 'lib/modules/1/kernel/fs']) {
      mkdirSync(join(tree, path), { recursive: true });
    }
    writeFileSync(
      join(tree, 'DEBIAN/control'),
      'Package: t\nVersion: 1\nArchitecture: all\nMaintainer: T <t@t>\nDescription: t\n',
    );
    writeFileSync(join(tree, 'usr/bin/program'), 'run');
    chmodSync(join(tree, 'usr/bin/program'), 0o755);
    writeFileSync(join(tree, 'usr/share/doc/t/copyright'), 'free');
    writeFileSync(join(tree, 'lib/modules/1/kernel/fs/a.ko'), 'a');
    writeFileSync(join(tree, 'lib/modules/1/kernel/b+.ko'), 'b');
    execFileSync('ln', ['-s', 'program', 'link'], { cwd: join(tree, 'usr/bin') });
    execFileSync('ln', ['program', 'hard'], { cwd: join(tree, 'usr/bin') });
    const file = join(folder, 't.deb');
    execFileSync('dpkg-deb', ['--root-owner-group', ...args, '--build', tree, file], { stdio: 'ignore' });
    const bytes = readFileSync(file);
    return {
      name: 't',
      package: 't',
      version: '1',
      path: 'pool/t.deb',
      size: bytes.length,
      sha256: sha256(bytes),
      file,
    };
  }

  it.each(['xz', 'gzip', 'none'])('has all that is in a package packed with %s', async (format) => {
    const folder = await unpackPackage(deb(`-Z${format}`), ['.'], { cacheDir: tempFolder() });
    expect(await filesBelow(folder)).toEqual([
      'lib/modules/1/kernel/b+.ko',
      'lib/modules/1/kernel/fs/a.ko',
      'usr/bin/hard',
      'usr/bin/program',
      'usr/share/doc/t/copyright',
    ]);
    expect(readlinkSync(join(folder, 'usr/bin/link'))).toBe('program');
    expect(statSync(join(folder, 'usr/bin/program')).mode & 0o777).toBe(0o755);
    expect(lstatSync(join(folder, 'usr/bin/hard')).nlink).toBe(2);
    expect(readFileSync(join(folder, 'lib/modules/1/kernel/fs/a.ko'), 'utf8')).toBe('a');
  });

  it('takes the parts that are asked for, with patterns, and leaves others out', async () => {
    const one = deb();
    const cacheDir = tempFolder();
    const kernel = await unpackPackage(one, ['./lib/modules/*/kernel/fs/*', './lib/*/b+.ko'], { cacheDir });
    expect(await filesBelow(kernel)).toEqual(['lib/modules/1/kernel/b+.ko', 'lib/modules/1/kernel/fs/a.ko']);
    const rest = await unpackPackage(one, ['.'], { cacheDir, without: ['./usr/share', './lib/*/kernel'] });
    expect(await filesBelow(rest)).toEqual(['usr/bin/hard', 'usr/bin/program']);
    expect((await failure(unpackPackage(one, ['./etc'], { cacheDir }))).message).toBe('the package t has no ./etc');
  });

  it('refuses damaged packages, and packages packed otherwise, in one line', async () => {
    const zstd = await failure(unpackPackage(deb('-Zzstd'), ['.'], { cacheDir: tempFolder() }));
    expect(zstd.message).toMatch(/^the package .*t\.deb is damaged: (data|control)\.tar\.zst is packed in a way/);
    const one = deb();
    const bytes = readFileSync(one.file);
    writeFileSync(one.file, bytes.subarray(0, bytes.length - 100));
    expect((await failure(unpackPackage(one, ['.'], { cacheDir: tempFolder() }))).message).toMatch(/ends early$/);
  });
});
