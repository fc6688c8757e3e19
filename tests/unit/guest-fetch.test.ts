import { existsSync, mkdirSync, readFileSync, readdirSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { cacheFolder, cachedFiles, sha256 } from '../../src/guest/cache.node.js';
import { fetchPackages, mirrorsOf } from '../../src/guest/fetch.node.js';
import type { FetchOptions } from '../../src/guest/fetch.node.js';
import { readPackageLock } from '../../src/guest/lock.node.js';
import type { PackageLock } from '../../src/guest/lock.node.js';
import type { Progress } from '../../src/guest/progress.js';
import { tempFolder } from '../support/temp.js';
import { failure, startArchive } from './guest-server.js';
import type { Answer, TestArchive } from './guest-server.js';

/** Sends a byte now and then, until the connection closes. */
function trickle(response: ServerResponse): void {
  response.write(content.subarray(0, 1000));
  const timer = setInterval(() => response.write(content.subarray(0, 1)), 10);
  response.once('close', () => clearInterval(timer));
}

const content = Buffer.alloc(300_000, 'a package of the test archive ');
const path = 'pool/main/p/pack/pack_1.0+b1~x_i386.deb';
const lock: PackageLock = {
  suite: 'bookworm',
  architecture: 'i386',
  snapshot: '20240101T000000Z',
  packages: [
    { name: 'pack', package: 'pack', version: '1.0+b1~x', path, size: content.length, sha256: sha256(content) },
  ],
};

async function setUp(answer?: Answer): Promise<{ archive: TestArchive; options: FetchOptions; cacheDir: string }> {
  const archive = await startArchive(answer === undefined ? {} : { [`/${path}`]: answer });
  const cacheDir = join(tempFolder(), 'cache');
  return { archive, cacheDir, options: { cacheDir, mirror: archive.url, lock, retryMs: 1 } };
}

function leftovers(cacheDir: string): string[] {
  return readdirSync(join(cacheDir, 'packages')).filter((name) => name.includes('.tmp-'));
}

describe('fetchPackages', () => {
  test('downloads a package once; then the cache suffices without the archive', async () => {
    const { archive, options } = await setUp(content);
    const seen: Progress[] = [];
    const [first] = await fetchPackages(['pack'], { ...options, onProgress: (progress) => seen.push(progress) });
    expect(sha256(readFileSync(first!.file))).toBe(sha256(content));
    expect(seen[0]).toEqual({ label: 'pack', done: 0, total: content.length });
    expect(seen.at(-1)).toEqual({ label: 'pack', done: content.length, total: content.length });
    await archive.close();
    expect(await fetchPackages(['pack'], options)).toEqual([first]);
    expect(archive.asked).toEqual([`/${path}`]);
  });

  test.each([
    ['was changed', (file: string) => writeFileSync(file, Buffer.alloc(content.length, 1))],
    ['was cut', (file: string) => truncateSync(file, 1000)],
  ])('fetches a cached file again that %s', async (_what, damage) => {
    const { options } = await setUp(content);
    const [{ file } = { file: '' }] = await fetchPackages(['pack'], options);
    damage(file);
    await fetchPackages(['pack'], options);
    expect(sha256(readFileSync(file))).toBe(sha256(content));
  });

  test('refuses a file with another checksum, and keeps nothing of it', async () => {
    const { archive, options, cacheDir } = await setUp(Buffer.alloc(content.length, 'evil'));
    const error = await failure(fetchPackages(['pack'], options));
    expect(error).toBeInstanceOf(FarbusError);
    expect(error.message).toMatch(/^cannot get the package pack: .* has not the SHA-256 .*FARBUS_DEBIAN_MIRROR/);
    expect(archive.asked).toHaveLength(1);
    expect(readdirSync(join(cacheDir, 'packages'))).toEqual([]);
  });

  test('refuses a file that is longer, without reading it to its end', async () => {
    const { options, cacheDir } = await setUp((response) => {
      const more = (): void => void (response.destroyed || response.write(content, more));
      more();
    });
    expect((await failure(fetchPackages(['pack'], options))).message).toMatch(/is longer than the 300000 bytes/);
    expect(leftovers(cacheDir)).toEqual([]);
  });

  test.each<[string, Answer, RegExp]>([
    ['is cut off', (response) => response.end(content.subarray(0, 9999)), /ended after 9999 of 300000 bytes/],
    ['breaks', (response) => response.destroy(), /: UND_ERR_SOCKET/],
    ['answers 503', (response) => response.writeHead(503).end(), /answers 503 Service Unavailable/],
  ])('tries three times where a download %s', async (_what, answer, message) => {
    const { archive, options, cacheDir } = await setUp(answer);
    expect((await failure(fetchPackages(['pack'], options))).message).toMatch(message);
    expect(archive.asked).toHaveLength(3);
    expect(leftovers(cacheDir)).toEqual([]);
  });

  test('continues after a failed attempt', async () => {
    let failures = 2;
    const { options } = await setUp((response) => {
      if (failures-- > 0) response.destroy();
      else response.end(content);
    });
    const [fetched] = await fetchPackages(['pack'], options);
    expect(sha256(readFileSync(fetched!.file))).toBe(sha256(content));
  });

  test.each<[string, Answer]>([
    ['before it answers', () => undefined],
    ['in the middle', (response) => response.write(content.subarray(0, 1000))],
    ['but for a byte now and then', (response) => trickle(response)],
  ])('does not wait for a server that falls silent %s', async (_when, answer) => {
    const { archive, options } = await setUp(answer);
    const error = await failure(fetchPackages(['pack'], { ...options, stallMs: 50 }));
    expect(error.message).toMatch(/sent next to nothing for 0.05 s/);
    expect(archive.asked).toHaveLength(3);
  });

  test('stops at once when it is cancelled', async () => {
    const { archive, options } = await setUp((response) => response.write(content.subarray(0, 1000)));
    const stop = new AbortController();
    const onProgress = ({ done }: Progress): void => void (done > 0 && stop.abort());
    const error = await failure(fetchPackages(['pack'], { ...options, signal: stop.signal, onProgress }));
    expect(error.message).toMatch(/was stopped$/);
    expect(archive.asked).toHaveLength(1);
  });

  test('says what to do if the connection is refused', async () => {
    const { archive, options } = await setUp();
    await archive.close();
    const { message } = await failure(fetchPackages(['pack'], options));
    expect(message).toMatch(/ECONNREFUSED; check the network, or set FARBUS_DEBIAN_MIRROR/);
    expect(message).not.toContain('\n');
  });

  test('two concurrent fetches into one cache get the same whole file', async () => {
    const { options } = await setUp(content);
    const both = await Promise.all([fetchPackages(['pack'], options), fetchPackages(['pack'], options)]);
    expect(both[0]).toEqual(both[1]);
    expect(sha256(readFileSync(both[0][0]!.file))).toBe(sha256(content));
  });

  test('names the cache folder if it cannot be written', async () => {
    const { options } = await setUp(content);
    const file = join(tempFolder(), 'file');
    writeFileSync(file, '');
    const { message } = await failure(fetchPackages(['pack'], { ...options, cacheDir: join(file, 'farbus') }));
    expect(message).toMatch(/^cannot write to the cache .*set XDG_CACHE_HOME/);
  });

  test('refuses a name that is not pinned', async () => {
    const { options } = await setUp();
    expect((await failure(fetchPackages(['other'], options))).message).toMatch(/not in packages.lock.json/);
  });
});

describe('the mirror', () => {
  test('is Debian, then Debian’s archive of old versions', async () => {
    const real = await readPackageLock();
    expect(mirrorsOf(real, '')).toEqual([
      'https://deb.debian.org/debian',
      `https://snapshot.debian.org/archive/debian/${real.snapshot}`,
    ]);
    expect(real.snapshot).toMatch(/^\d{8}T\d{6}Z$/);
  });

  test('can be changed', () => {
    expect(mirrorsOf(lock, 'http://mirror.example/debian//')).toEqual(['http://mirror.example/debian']);
  });

  test.each(['mirror.example', 'file:///srv/debian', 'http://'])('cannot be %s', (mirror) => {
    expect(() => mirrorsOf(lock, mirror)).toThrow(/FARBUS_DEBIAN_MIRROR/);
  });
});

describe('the cache', () => {
  test('has the place of the XDG specification', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/var/tmp/c', HOME: '/home/me' })).toBe('/var/tmp/c/farbus');
    expect(cacheFolder({ XDG_CACHE_HOME: 'relative', HOME: '/home/me' })).toBe('/home/me/.cache/farbus');
    expect(cacheFolder({ HOME: '/home/me' })).toBe('/home/me/.cache/farbus');
  });

  test('makes files once, and again if one was damaged', async () => {
    const folder = join(tempFolder(), 'made', 'key');
    let made = 0;
    const get = (): Promise<Record<'a' | 'b', Uint8Array>> =>
      cachedFiles(folder, ['a', 'b'], () => {
        made += 1;
        return Promise.resolve({ a: Buffer.from('one'), b: Buffer.from('two') });
      });
    await get();
    expect(await get()).toEqual({ a: new Uint8Array(Buffer.from('one')), b: new Uint8Array(Buffer.from('two')) });
    expect(made).toBe(1);
    writeFileSync(join(folder, 'b'), 'twx');
    expect(Buffer.from((await get()).b).toString()).toBe('two');
    expect(made).toBe(2);
    expect(readFileSync(join(folder, 'b'), 'utf8')).toBe('two');
  });

  test('removes leftovers of an interrupted run, except recent ones', async () => {
    const { options, cacheDir } = await setUp(content);
    const folder = join(cacheDir, 'packages');
    mkdirSync(folder, { recursive: true });
    for (const name of ['x.deb.tmp-1-0123456789ab', 'x.deb.tmp-1-ba9876543210']) writeFileSync(join(folder, name), '');
    utimesSync(join(folder, 'x.deb.tmp-1-0123456789ab'), 0, 0);
    await fetchPackages(['pack'], options);
    expect(existsSync(join(folder, 'x.deb.tmp-1-0123456789ab'))).toBe(false);
    expect(existsSync(join(folder, 'x.deb.tmp-1-ba9876543210'))).toBe(true);
  });
});
