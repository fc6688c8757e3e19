/**
 * Farbus's own files at paths that a user names: which existing files are accepted, and what is
 * there while one is created.
 */
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/storage/memory.js';
import { openCacheFile } from '../../src/storage/cache-file.node.js';
import { openOverlayFile } from '../../src/storage/overlay-file.node.js';
import { openOwnFile, type OwnFile } from '../../src/storage/own-file.node.js';
import { testWithKoffi } from '../support/koffi.js';
import { tempFolder } from '../support/temp.js';

const header = new TextEncoder().encode('MAGIC!!!');

function own(make: (path: string) => Promise<string>): OwnFile<string> {
  return {
    what: 'ours',
    magic: 'MAGIC!!!',
    size: 8192,
    make,
    open: () => Promise.resolve('opened'),
  };
}

const writeHeader = (path: string): Promise<string> => {
  writeFileSync(path, header, { flag: 'r+' });
  return Promise.resolve('made');
};

describe('a file that Farbus makes', () => {
  test('is empty or absent at its path until its header is durable', async () => {
    const folder = tempFolder();
    const path = join(folder, 'file');
    let seen: number | undefined;
    const result = await openOwnFile(
      path,
      own((temporary) => {
        seen = statSync(path).size;
        expect(statSync(temporary).size).toBe(8192);
        return writeHeader(temporary);
      }),
    );
    expect([result, seen, statSync(path).size, statSync(path).mode & 0o777]).toEqual(['made', 0, 8192, 0o600]);
    expect(readdirSync(folder)).toEqual(['file']);
    expect(await openOwnFile(path, own(writeHeader))).toBe('opened');
  });

  test('leaves nothing if it cannot be made, and an empty file of the user’s unchanged', async () => {
    const folder = tempFolder();
    const fails = own(() => Promise.reject(new Error('full')));
    await expect(openOwnFile(join(folder, 'new'), fails)).rejects.toThrow('full');
    expect(readdirSync(folder)).toEqual([]);
    writeFileSync(join(folder, 'empty'), '');
    await expect(openOwnFile(join(folder, 'empty'), fails)).rejects.toThrow('full');
    expect(readdirSync(folder)).toEqual(['empty']);
  });

  test('is made at the target of a link, which stays', async () => {
    const folder = tempFolder();
    writeFileSync(join(folder, 'target'), '');
    symlinkSync('target', join(folder, 'link'));
    await openOwnFile(join(folder, 'link'), own(writeHeader));
    expect(statSync(join(folder, 'target')).size).toBe(8192);
    expect(readdirSync(folder).sort()).toEqual(['link', 'target']);
  });

  testWithKoffi('is made by one of several that begin at once', async () => {
    const path = join(tempFolder(), 'file');
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => openOwnFile(path, own(writeHeader))));
    const made = results.filter((result) => result.status === 'fulfilled' && result.value === 'made');
    expect(made).toHaveLength(1);
    expect(readFileSync(path).subarray(0, 8).equals(header)).toBe(true);
  });
});

describe('an overlay whose making was cut off by a crash', () => {
  const base = (): MemoryDevice => new MemoryDevice(new Uint8Array(1 << 20).fill(7), { readOnly: true });
  const made = async (): Promise<Buffer> => {
    const path = join(tempFolder(), 'made');
    await (await openOverlayFile(base(), path)).close();
    return readFileSync(path);
  };
  const withSectors = (file: Buffer, kept: number): Buffer => {
    const torn = Buffer.alloc(file.length);
    file.copy(torn, 0, 0, 8);
    for (let sector = 0; sector < 8; sector++) {
      if (kept & (1 << sector)) file.copy(torn, sector * 512, sector * 512, (sector + 1) * 512);
    }
    return torn;
  };

  test('is made again, whichever part of its header exists', async () => {
    const file = await made();
    // Sectors 0 (with the fields) and 7 (with the checksum) are not all zeroes.
    const states = [0, 1, 0x7f, 0x80, 0xfe].map((kept) => withSectors(file, kept));
    states.push(file.subarray(0, 8), file.subarray(0, 512), file.subarray(0, 4095));
    for (const [index, state] of states.entries()) {
      const path = join(tempFolder(), 'torn');
      writeFileSync(path, state);
      const overlay = await openOverlayFile(base(), path);
      await overlay.write(0, new Uint8Array(512).fill(1));
      await overlay.close();
      const again = await openOverlayFile(base(), path);
      const bytes = new Uint8Array(1024);
      await again.read(0, bytes);
      await again.close();
      expect([bytes[0], bytes[512]], `state ${index}`).toEqual([1, 7]);
    }
  });

  test('is reported as damaged, and stays unchanged, if data follows the header', async () => {
    const file = await made();
    for (const at of [4096, file.length - 1]) {
      const state = withSectors(file, 1);
      state[at] = 1;
      const path = join(tempFolder(), 'damaged');
      writeFileSync(path, state);
      await expect(openOverlayFile(base(), path)).rejects.toThrow('is damaged');
      expect(readFileSync(path).equals(state)).toBe(true);
    }
  });
});

describe('a file of another kind', () => {
  const device = (): MemoryDevice => new MemoryDevice(1 << 20);
  const files: readonly (readonly [string, Buffer])[] = [
    [
      'an ISO image or another file that begins with zeroes',
      Buffer.concat([Buffer.alloc(32768), Buffer.from('CD001')]),
    ],
    ['a blank disk', Buffer.alloc(1 << 20)],
    ['4096 zeroes', Buffer.alloc(4096)],
    ['one byte', Buffer.alloc(1)],
    ['a text', Buffer.from('PRECIOUS')],
  ];
  for (const [name, bytes] of files) {
    test(`is neither accepted as a cache nor as an overlay: ${name}`, async () => {
      const path = join(tempFolder(), 'file');
      writeFileSync(path, bytes);
      await expect(openCacheFile(device(), path)).rejects.toThrow(`${path} is not a cache`);
      await expect(openCacheFile(device(), path, { keep: true })).rejects.toThrow(`${path} is not a cache`);
      await expect(openOverlayFile(device(), path)).rejects.toThrow(`${path} is not an overlay`);
      expect(readFileSync(path).equals(bytes)).toBe(true);
    });
  }

  test('an overlay is not accepted as a cache, nor a cache as an overlay', async () => {
    const folder = tempFolder();
    const [cache, overlay] = [join(folder, 'cache'), join(folder, 'overlay')];
    await (await openCacheFile(device(), cache)).close();
    await (await openOverlayFile(device(), overlay)).close();
    await expect(openCacheFile(device(), overlay)).rejects.toThrow(/is not a cache/);
    await expect(openOverlayFile(device(), cache)).rejects.toThrow(/is not an overlay/);
  });
});
