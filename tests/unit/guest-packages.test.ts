import { readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { choosePackages, fetchWithDependencies } from '../../src/guest/packages.node.js';
import type { PackageChoice } from '../../src/guest/packages.node.js';
import { tempFolder } from '../support/temp.js';
import { listPackages, poolPath, startListedArchive } from './guest-deb.js';
import type { ListedPackage } from './guest-deb.js';
import { failure } from './guest-server.js';
import type { TestArchive } from './guest-server.js';

const tool: ListedPackage = { name: 'tool', fields: ['Depends: libtool', 'Installed-Size: 7'] };
const library: ListedPackage = { name: 'libtool', fields: ['Installed-Size: 3', 'Priority: required'] };
const list = '/dists/bookworm/main/binary-i386/Packages.gz';

afterEach(() => void vi.unstubAllGlobals());

async function setUp(packages: ListedPackage[] = [tool, library]): Promise<{
  archive: TestArchive;
  cacheDir: string;
  options: PackageChoice;
}> {
  const { archive, mirror, keyring } = await startListedArchive(packages);
  const cacheDir = tempFolder();
  return { archive, cacheDir, options: { cacheDir, mirror, keyring, retryMs: 1 } };
}

describe('packages with their dependencies', () => {
  test('are chosen from the release’s list, each after its dependencies', async () => {
    const { options } = await setUp();
    const chosen = await choosePackages(['tool'], options);
    expect(chosen.map(({ package: name, installed }) => [name, installed])).toEqual([
      ['libtool', 3072],
      ['tool', 7168],
    ]);
    expect((await choosePackages(['tool'], { ...options, without: ['libtool'] })).map(({ name }) => name)).toEqual([
      'tool',
    ]);
    expect((await choosePackages([], { ...options, required: true })).map(({ name }) => name)).toEqual(['libtool']);
  });

  test('are fetched, and stay the same without the archive', async () => {
    const { archive, options } = await setUp();
    const fetched = await fetchWithDependencies(['tool'], options);
    expect(fetched.map(({ name }) => name)).toEqual(['libtool', 'tool']);
    expect(readFileSync(fetched[1]!.file).equals(archive.files.get(poolPath('tool')) as Buffer)).toBe(true);
    await archive.close();
    expect(await fetchWithDependencies(['tool', 'tool'], options)).toEqual(fetched);
  });

  test('ask for the list once a day, not for every name', async () => {
    const { archive, options, cacheDir } = await setUp();
    await choosePackages(['tool'], options);
    await choosePackages(['libtool'], options);
    expect(archive.asked.filter((path) => path === list)).toHaveLength(1);
    const yesterday = Date.now() / 1000 - 90_000;
    utimesSync(join(cacheDir, 'suites/bookworm-i386/Packages.gz'), yesterday, yesterday);
    await choosePackages(['libtool', 'tool'], options);
    expect(archive.asked.filter((path) => path === list)).toHaveLength(2);
  });

  test('are chosen again if the archive has other versions', async () => {
    const { archive, options } = await setUp();
    const before = await choosePackages(['tool'], options);
    archive.files.delete(poolPath('tool'));
    listPackages(archive, [{ ...tool, version: '2.0' }, library]);
    const fetched = await fetchWithDependencies(['tool'], options);
    expect([before[1]!.version, fetched[1]!.version]).toEqual(['1.0', '2.0']);
    expect((await choosePackages(['tool'], options))[1]!.version).toBe('2.0');
  });

  test('are chosen again if the cache was damaged', async () => {
    const { options, cacheDir } = await setUp();
    const before = await choosePackages(['tool'], options);
    const file = readdirSync(join(cacheDir, 'choices'))[0]!;
    writeFileSync(join(cacheDir, 'choices', file), '[{"name":"../x"}]');
    writeFileSync(join(cacheDir, 'suites/bookworm-i386/Packages.gz'), 'damaged');
    expect(await choosePackages(['tool'], options)).toEqual(before);
  });
});

describe('a failure is reported in one line', () => {
  test.each<[string, string[], RegExp]>([
    ['an unknown name', ['tol'], /^Debian has no package "tol" for this guest$/],
    ['what is no name', ['../tool'], /^"\.\.\/tool" cannot be the name of a Debian package$/],
    ['too many names', Array.from({ length: 65 }, (_, i) => `p${i}`), /^65 packages are too many: 64 at most$/],
    ['what needs an unknown one', ['broken'], /^broken needs absent, which Debian does not have$/],
  ])('%s', async (_what, names, message) => {
    const { options, archive } = await setUp([tool, library, { name: 'broken', fields: ['Depends: absent'] }]);
    expect((await failure(choosePackages(names, options))).message).toMatch(message);
    expect(archive.asked.filter((path) => path.startsWith('/pool/'))).toEqual([]);
  });

  test('no network', async () => {
    const { archive, options } = await setUp();
    await archive.close();
    expect((await failure(fetchWithDependencies(['tool'], options))).message).toMatch(
      /^cannot get Debian's list of packages: .*InRelease.*; check the network, or set FARBUS_DEBIAN_MIRROR/,
    );
  });

  test('packages that the archive lists but does not have', async () => {
    const { archive, options } = await setUp();
    archive.files.delete(poolPath('tool'));
    expect((await failure(fetchWithDependencies(['tool'], options))).message).toMatch(
      /^the Debian archive does not have what it lists for tool: try again later$/,
    );
  });

  test('a list that is refused is not kept, and nothing of it is fetched', async () => {
    const { archive, options, cacheDir } = await setUp();
    const check = (): void => {
      throw new Error('too large');
    };
    expect((await failure(fetchWithDependencies(['tool'], { ...options, check }))).message).toBe('too large');
    expect(archive.asked.filter((path) => path.startsWith('/pool/'))).toEqual([]);
    expect(readdirSync(cacheDir)).not.toContain('choices');
  });
});
