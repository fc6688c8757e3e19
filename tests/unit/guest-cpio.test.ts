import { execFileSync } from 'node:child_process';
import { lstatSync, readFileSync, readlinkSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cpioArchive } from '../../src/guest/cpio.js';
import type { CpioEntry } from '../../src/guest/cpio.js';
import { tempFolder } from '../support/temp.js';

/** Runs GNU cpio, which reads the archives here; scripts/test-peers.sh installs it. */
function cpio(args: readonly string[], archive: Uint8Array, cwd?: string): string {
  return execFileSync('cpio', ['--quiet', ...args], { input: archive, encoding: 'utf8', cwd });
}

const name = fc.string({ unit: fc.constantFrom('a', 'B', '0', '.x', '-', ' ', 'ä', '~'), minLength: 1, maxLength: 3 });
const file = fc
  .record({ data: fc.uint8Array({ maxLength: 50 }), mode: fc.constantFrom(0o644, 0o755, 0o600) })
  .map(({ data, mode }): CpioEntry => ({ type: 'file', mode, data }));
const link = fc.constantFrom('target', '/bin/x', '../y').map((target): CpioEntry => ({ type: 'symlink', target }));
const directory = fc.constantFrom(0o755, 0o700).map((mode): CpioEntry => ({ type: 'directory', mode }));
/** Names of files and links differ from all directory names, so that no entry lies below a file. */
const entries = fc
  .array(
    fc.tuple(fc.array(name, { maxLength: 3 }), name, fc.oneof(file, link, directory)).map(([above, last, entry]) => {
      const leaf = entry.type === 'directory' ? last : `${last}!`;
      return [[...above, leaf].join('/'), entry] as const;
    }),
    { maxLength: 12 },
  )
  .map((list) => new Map(list.filter(([path]) => !path.split('/').includes('.'))));

function tree(folder: string): Map<string, CpioEntry> {
  const found = new Map<string, CpioEntry>();
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const stat = lstatSync(join(folder, path));
    const mode = stat.mode & 0o7777;
    if (stat.isDirectory()) found.set(path, { type: 'directory', mode });
    else if (stat.isSymbolicLink()) found.set(path, { type: 'symlink', target: readlinkSync(join(folder, path)) });
    else found.set(path, { type: 'file', mode, data: new Uint8Array(readFileSync(join(folder, path))) });
  }
  return found;
}

describe('cpioArchive', () => {
  test('cpio unpacks the packed files', () => {
    fc.assert(
      fc.property(entries, (packed) => {
        const folder = tempFolder();
        cpio(['--extract'], cpioArchive(packed), folder);
        const unpacked = tree(folder);
        for (const [path, entry] of packed) expect(unpacked.get(path), path).toEqual(entry);
        for (const [path, entry] of unpacked) if (!packed.has(path)) expect(entry.type).toBe('directory');
      }),
      { numRuns: 40 },
    );
  });

  test('equal entries give equal bytes, in whatever order they come', () => {
    fc.assert(
      fc.property(entries, (packed) => {
        expect(cpioArchive(new Map([...packed].reverse()))).toEqual(cpioArchive(packed));
      }),
    );
  });

  test('makes missing directories, parents before what they hold', () => {
    const archive = cpioArchive(
      new Map<string, CpioEntry>([
        ['a/b/c', { type: 'file', mode: 0o644, data: new Uint8Array(3) }],
        ['a-b', { type: 'directory', mode: 0o755 }],
      ]),
    );
    expect(cpio(['--list'], archive).trim().split('\n')).toEqual(['a', 'a/b', 'a/b/c', 'a-b']);
    expect(archive.length % 4).toBe(0);
  });

  test('contains devices, and root owns everything', () => {
    const console: CpioEntry = { type: 'character', mode: 0o600, major: 5, minor: 1 };
    const listing = cpio(
      ['--list', '--verbose', '--numeric-uid-gid'],
      cpioArchive(new Map([['dev/console', console]])),
    );
    expect(listing.split('\n')[1]).toMatch(/^crw------- +1 0 +0 +5, +1 Jan +1 +1970 dev\/console$/);
  });

  test.each(['', '/a', 'a/', 'a//b', '.', '../a', 'a/../b', 'a\0b', 'TRAILER!!!', 'x'.repeat(4096)])(
    'refuses the path %j',
    (path) => {
      expect(() => cpioArchive(new Map([[path, { type: 'directory', mode: 0o755 }]]))).toThrow(RangeError);
    },
  );

  test('refuses entries that the format cannot hold', () => {
    const file: CpioEntry = { type: 'file', mode: 0o644, data: new Uint8Array(0) };
    const refuse = (list: [string, CpioEntry][]): void => {
      expect(() => cpioArchive(new Map(list))).toThrow(RangeError);
    };
    refuse([
      ['a', file],
      ['a/b', file],
    ]);
    refuse([['a', { ...file, mode: 0o100644 }]]);
    refuse([['a', { type: 'symlink', target: '' }]]);
    refuse([['a', { type: 'character', mode: 0o600, major: 2 ** 32, minor: 0 }]]);
  });
});
