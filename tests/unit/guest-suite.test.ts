import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { LogLevel } from '../../src/base/log.js';
import { findPackage, parseStanza, releaseFile, withoutSignature } from '../../src/guest/deb822.js';
import { fetchPackages, knownPackages } from '../../src/guest/fetch.node.js';
import type { FetchOptions } from '../../src/guest/fetch.node.js';
import type { PackageLock } from '../../src/guest/lock.node.js';
import { Suite } from '../../src/guest/suite.node.js';
import { tempFolder } from '../support/temp.js';
import { failure, startArchive } from './guest-server.js';
import type { Answer, TestArchive } from './guest-server.js';

const folder = fileURLToPath(new URL('guest-archive/', import.meta.url));
const inRelease = readFileSync(join(folder, 'InRelease'), 'utf8');
const packagesGz = readFileSync(join(folder, 'Packages.gz'));
const content = Buffer.from('the present kernel package of the test archive\n');
const present = '/pool/main/l/linux-signed-i386/linux-image-6.1.0-60-686_6.1.200-1_i386.deb';

/** A lock file whose package is no longer in any archive. */
const lock: PackageLock = {
  suite: 'bookworm',
  architecture: 'i386',
  snapshot: '20240101T000000Z',
  packages: [
    {
      name: 'linux-image-686',
      package: 'linux-image-6.1.0-50-686',
      version: '6.1.176-1',
      path: 'pool/main/l/linux-signed-i386/linux-image-6.1.0-50-686_6.1.176-1_i386.deb',
      size: 1000,
      sha256: 'ab'.repeat(32),
    },
  ],
};

interface SetUp {
  readonly archive: TestArchive;
  readonly options: FetchOptions;
  readonly lines: string[];
}

async function setUp(changes: Record<string, Answer> = {}): Promise<SetUp> {
  const archive = await startArchive({
    '/dists/bookworm/InRelease': Buffer.from(inRelease),
    '/dists/bookworm/main/binary-i386/Packages.gz': packagesGz,
    [present]: content,
    ...changes,
  });
  const lines: string[] = [];
  const log = { log: (level: LogLevel, message: string) => void lines.push(`${level}: ${message}`) };
  const keyring = join(folder, 'keyring.gpg');
  return { archive, lines, options: { cacheDir: tempFolder(), mirror: archive.url, lock, log, keyring, retryMs: 1 } };
}

async function get(options: FetchOptions): Promise<string> {
  const [fetched] = await fetchPackages(['linux-image-686'], options);
  return readFileSync(fetched!.file, 'utf8');
}

describe('a pinned version that has left the archive', () => {
  afterEach(() => void vi.unstubAllEnvs());

  test('is replaced by the suite’s present one, with a message', async () => {
    const { lines, options } = await setUp();
    expect(await get(options)).toBe(content.toString());
    expect(lines).toEqual(['info: linux-image-6.1.0-50-686 6.1.176-1 has left the archive: taking 6.1.200-1']);
  });

  test('is replaced once; then the cache suffices without the archive', async () => {
    const { archive, options } = await setUp();
    const before = await knownPackages(['linux-image-686'], options);
    await get(options);
    await archive.close();
    expect(await get(options)).toBe(content.toString());
    const [after] = await knownPackages(['linux-image-686'], options);
    expect([before[0]!.version, after!.version]).toEqual(['6.1.176-1', '6.1.200-1']);
    expect(after!.package).toBe('linux-image-6.1.0-60-686');
  });

  test.each<[string, Record<string, Answer>, RegExp]>([
    [
      'an InRelease that was changed after it was signed',
      { '/dists/bookworm/InRelease': Buffer.from(inRelease.replace('oldstable', 'oldstabel')) },
      /InRelease is not signed by Debian/,
    ],
    [
      'an InRelease without a signature',
      { '/dists/bookworm/InRelease': Buffer.from(withoutSignature(inRelease)) },
      /InRelease is not signed by Debian/,
    ],
    [
      'a list of packages that InRelease does not vouch for',
      { '/dists/bookworm/main/binary-i386/Packages.gz': Buffer.alloc(packagesGz.length) },
      /Packages.gz is not what InRelease says/,
    ],
    ['a package that the list does not vouch for', { [present]: Buffer.alloc(content.length) }, /has not the SHA-256/],
    [
      'an archive without the suite',
      { '/dists/bookworm/InRelease': (response) => response.writeHead(404).end() },
      /^cannot read Debian's suite bookworm: .* answers 404/,
    ],
  ])('does not give way to %s', async (_what, changes, message) => {
    const { options } = await setUp(changes);
    expect((await failure(fetchPackages(['linux-image-686'], options))).message).toMatch(message);
  });

  test('is replaced by the signed text, not by text around it', async () => {
    const around = Buffer.from(`Codename: evil\n\n${inRelease}\nCodename: evil\n`);
    expect(await get((await setUp({ '/dists/bookworm/InRelease': around })).options)).toBe(content.toString());
  });

  test('is an error if the archive lacks a file that it lists', async () => {
    const { archive, options } = await setUp();
    archive.files.delete(present);
    expect((await failure(fetchPackages(['linux-image-686'], options))).message).toMatch(/lists .* but does not have/);
  });

  test('is an error over http if no signature can be checked', async () => {
    const { options } = await setUp();
    const nowhere = { ...options, keyring: join(tempFolder(), 'none.gpg') };
    expect((await failure(fetchPackages(['linux-image-686'], nowhere))).message).toMatch(
      /cannot be checked: run "sudo apt-get install gpgv debian-archive-keyring"/,
    );
  });

  test('over https without gpgv InRelease is used, with a message that it was not checked', async () => {
    const { options, lines, archive } = await setUp();
    // The test archive serves only http: redirect https requests to it.
    const real = globalThis.fetch;
    vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
      const response = await real(url.replace('https://archive.test', archive.url), init);
      return Object.defineProperty(response, 'url', { value: url });
    });
    try {
      vi.stubEnv('PATH', '/nowhere');
      expect(await get({ ...options, mirror: 'https://archive.test' })).toBe(content.toString());
    } finally {
      vi.unstubAllGlobals();
    }
    expect(lines[0]).toMatch(/^warn: the signature of https:\/\/archive\.test\/.* was not checked: gpgv or /);
  });
});

describe('control files', () => {
  const packages = [
    'Package: a\nVersion: 1\nFilename: pool/a.deb\n',
    'Package: ab\nVersion: 2\nDescription: of ab\n with\n two lines\n',
    'Package: b\nVersion: 3',
  ].join('\n');

  test('are read stanza by stanza, first, middle and last', () => {
    expect(findPackage(packages, 'a')?.get('version')).toBe('1');
    expect(findPackage(packages, 'ab')?.get('description')).toBe('of ab\nwith\ntwo lines');
    expect(findPackage(packages, 'b')?.get('version')).toBe('3');
    expect(findPackage(packages, 'of ab')).toBeUndefined();
  });

  test('give a file’s checksum only by its full name', () => {
    const release = parseStanza(withoutSignature(inRelease));
    expect(releaseFile(release, 'main/binary-i386/Packages.gz')?.size).toBe(packagesGz.length);
    expect(releaseFile(release, 'Packages.gz')).toBeUndefined();
  });

  test("are refused if a package's path leads out of the archive", () => {
    const stanza = `Package: a\nVersion: 1\nFilename: pool/../../a.deb\nSize: 1\nSHA256: ${'0'.repeat(64)}\n`;
    expect(() => new Suite(stanza).find('a')).toThrow(/cannot be$/);
    expect(() => new Suite(stanza).find('z')).toThrow(/has no package z$/);
  });
});
