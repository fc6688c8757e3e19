/**
 * The parts from which a guest's disk is made: tar archives, the tree of files with owners, and
 * copies with holes.
 */
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { accounts, configuration, groupFiles } from '../../src/guest/disk/configuration.js';
import { copySparse } from '../../src/guest/disk/sparse.node.js';
import { readTar, type TarEntry } from '../../src/guest/archive/tar.js';
import { RootTree } from '../../src/guest/disk/tree.node.js';
import { tempFolder } from '../support/temp.js';

/** The tar archive that GNU tar makes of a folder with one file of each type. */
function archive(): Uint8Array {
  const folder = tempFolder();
  const long = 'x'.repeat(120);
  mkdirSync(join(folder, 'etc', long), { recursive: true });
  writeFileSync(join(folder, 'etc', long, 'file'), 'long\n');
  writeFileSync(join(folder, 'su'), 'program', { mode: 0o755 });
  execFileSync('chmod', ['4755', 'su'], { cwd: folder });
  execFileSync('ln', ['su', 'su2'], { cwd: folder });
  execFileSync('ln', ['-s', '/etc/target', 'link'], { cwd: folder });
  const args = [
    '--format=gnu',
    '--owner=nobody:1234',
    '--group=shadow:42',
    '--numeric-owner',
    '--sort=name',
    '-c',
    '.',
  ];
  return execFileSync('tar', args, { cwd: folder });
}

const entry = (path: string, more: Partial<TarEntry>): TarEntry => ({
  path,
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 0,
  data: new Uint8Array(0),
  target: '',
  ...more,
});

/** Reads an archive that comes in parts of odd sizes. */
async function all(bytes: Uint8Array): Promise<TarEntry[]> {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 700) parts.push(bytes.subarray(at, at + 700));
  const entries: TarEntry[] = [];
  for await (const one of readTar(parts)) entries.push(one);
  return entries;
}

describe('readTar', () => {
  it('reads the archives that tar writes: long names, owners, modes and links', async () => {
    const entries = new Map((await all(archive())).map((one) => [one.path, one]));
    const long = entries.get(`etc/${'x'.repeat(120)}/file`)!;
    expect(Buffer.from(long.data).toString()).toBe('long\n');
    expect(entries.get('su')).toMatchObject({ type: 'file', mode: 0o4755, uid: 1234, gid: 42 });
    expect(entries.get('su2')).toMatchObject({ type: 'link', target: 'su' });
    expect(entries.get('link')).toMatchObject({ type: 'symlink', target: '/etc/target' });
    expect(entries.get('')).toMatchObject({ type: 'directory' });
  });

  it('refuses damaged and cut archives and paths that lead out, and changes nothing', async () => {
    const good = archive();
    await expect(all(good.subarray(0, good.length - 10_000))).rejects.toThrow(RangeError);
    const folder = tempFolder();
    mkdirSync(join(folder, 'in'));
    writeFileSync(join(folder, 'out'), 'x');
    const out = execFileSync('tar', ['-P', '-c', '../out'], { cwd: join(folder, 'in') });
    await expect(all(out)).rejects.toThrow('leads out of the archive');
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), async (at, value, length) => {
        const bytes = Uint8Array.from(good.subarray(0, length));
        if (at < length) bytes[at] = value;
        try {
          for (const { path } of await all(bytes)) expect(path.split('/')).not.toContain('..');
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('RootTree', () => {
  it("stays within its folder: a package's paths follow the tree's links, and never lead out", async () => {
    const tree = new RootTree(tempFolder());
    await tree.directory('usr/bin');
    await tree.link('bin', 'usr/bin');
    await tree.link('var', '/srv');
    await tree.directory('srv');
    await tree.put(entry('bin', { type: 'directory', mode: 0o755 }));
    await tree.put(entry('bin/su', { mode: 0o4755, data: Buffer.from('x') }));
    await tree.put(entry('var/shadow', { mode: 0o640, gid: 42 }));
    await tree.put(entry('usr/bin/su2', { type: 'link', target: 'bin/su' }));
    expect(readlinkSync(join(tree.folder, 'bin'))).toBe('usr/bin');
    expect(statSync(join(tree.folder, 'usr/bin/su')).mode & 0o7777).toBe(0o4755);
    expect(statSync(join(tree.folder, 'usr/bin/su2')).ino).toBe(statSync(join(tree.folder, 'usr/bin/su')).ino);
    expect(tree.owners.get('srv/shadow')).toMatchObject({ uid: 0, gid: 42 });
    await tree.link('away', '../../../etc');
    await tree.directory('etc');
    await tree.put(entry('away/passwd', {}));
    expect(lstatSync(join(tree.folder, 'etc/passwd')).isFile()).toBe(true);
    await tree.link('round', 'about');
    await tree.link('about', 'round');
    await expect(tree.put(entry('round/x', {}))).rejects.toThrow('circle');
  });
});

describe('the configuration', () => {
  it('gives root a password, and no other user', () => {
    const { passwd, shadow } = accounts('root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/usr/sbin:/bin/false\n');
    expect(passwd).toBe('root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n');
    expect(shadow).toMatch(/^root:\$5\$[^:]+:19000:0:99999:7:::\ndaemon:\*:19000:0:99999:7:::\n$/);
    expect(groupFiles('shadow:*:42:\n')).toEqual({ group: 'shadow:x:42:\n', gshadow: 'shadow:*::\n' });
  });

  it('sets modes and groups only of existing files', () => {
    const known = [...Object.keys(configuration.files), 'etc/shadow', 'etc/gshadow'];
    for (const path of [...Object.keys(configuration.modes), ...Object.keys(configuration.groups)]) {
      expect(known).toContain(path);
    }
  });
});

describe('copySparse', () => {
  it('copies, leaves holes, and gives equal sums for equal contents', async () => {
    const folder = tempFolder();
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    const bytes = Buffer.alloc((5 << 20) + 123);
    bytes.write('begin');
    bytes.write('end', bytes.length - 3);
    writeFileSync(from, bytes);
    const told: number[] = [];
    const sum = await copySparse(from, to, (done) => told.push(done));
    expect(readFileSync(to).equals(bytes)).toBe(true);
    expect(statSync(to).blocks * 512).toBeLessThan(3 << 20);
    expect(told.at(-1)).toBe(bytes.length);
    expect(await copySparse(to)).toBe(sum);
    bytes[3 << 20] = 1;
    writeFileSync(from, bytes);
    expect(await copySparse(from)).not.toBe(sum);
  });
});
