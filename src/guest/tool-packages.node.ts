/**
 * Debian packages as entries of the guest's initramfs: their files, without documentation and
 * other files that the guest does not use. Their maintainer scripts are not run, so users,
 * alternatives and caches that these would create are missing.
 */
import { lstat, readFile, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError } from '../base/errors.js';
import { formatBytes } from '../base/format.js';
import type { CpioEntry } from './cpio.js';
import type { FetchedPackage } from './fetch.node.js';
import type { NeededPackage } from './packages.node.js';
import { unpackPackage } from './unpack.node.js';
import type { UnpackOptions } from './unpack.node.js';

/** Packages that only maintainer scripts need. They are left out unless requested. */
export const maintainerPackages: readonly string[] = [
  'adduser',
  'debconf',
  'dpkg',
  'init-system-helpers',
  'install-info',
  'lsb-base',
  'ucf',
];

/** Folders left out: documentation, translations, and files for desktops and build tools. */
const leftOut: readonly string[] = [
  'usr/include',
  'usr/lib/*/gconv',
  'usr/share/applications',
  'usr/share/bash-completion',
  'usr/share/bug',
  'usr/share/doc',
  'usr/share/doc-base',
  'usr/share/i18n',
  'usr/share/icons',
  'usr/share/info',
  'usr/share/lintian',
  'usr/share/locale',
  'usr/share/man',
  'usr/share/menu',
  'usr/share/pixmaps',
  'usr/share/zsh',
];

/**
 * Maximum sizes in bytes, declared and unpacked. The guest holds all files in memory, and twice
 * while it starts.
 */
const maxInstalled = 256 << 20;
const maxFiles = 192 << 20;

/**
 * @throws FarbusError that names the largest packages, if a guest cannot hold them all in memory
 */
export function checkToolSize(packages: readonly NeededPackage[]): void {
  refuseAbove(maxInstalled, new Map(packages.map(({ package: name, installed }) => [name, installed])));
}

function refuseAbove(limit: number, sizes: ReadonlyMap<string, number>): void {
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  if (total <= limit) return;
  const largest = [...sizes].sort((a, b) => b[1] - a[1]).slice(0, 3);
  const names = largest.map(([name, size]) => `${name} (${formatBytes(size)})`).join(', ');
  throw new FarbusError(
    `the packages asked for come to ${formatBytes(total)} with what they need, of which a guest in memory holds ${formatBytes(limit)}; the largest: ${names}`,
  );
}

/**
 * The files of the packages by path. If two packages have the same file, the later one wins.
 * @throws FarbusError if they are too large or cannot be unpacked
 */
export async function toolEntries(
  packages: readonly FetchedPackage[],
  options: UnpackOptions = {},
): Promise<Map<string, CpioEntry>> {
  const entries = new Map<string, CpioEntry>();
  const sizes = new Map<string, number>();
  for (const one of packages) {
    const folder = await unpackPackage(one, ['.'], { ...options, without: leftOut.map((path) => `./${path}`) });
    let size = 0;
    for await (const [path, entry] of readTree(folder)) {
      if (entry.type === 'directory' && entries.has(path)) continue;
      if (entry.type === 'file') size += entry.data.length;
      entries.set(path, entry);
    }
    sizes.set(one.package, size);
    refuseAbove(maxFiles, sizes);
  }
  return entries;
}

/**
 * All entries below a folder, parents first. Only files, folders and symbolic links: Debian
 * packages have no others.
 */
async function* readTree(folder: string, below = ''): AsyncGenerator<[string, CpioEntry]> {
  const names = (await readdir(join(folder, below))).sort();
  for (const name of names) {
    const path = below === '' ? name : `${below}/${name}`;
    const place = join(folder, path);
    const found = await lstat(place);
    const mode = found.mode & 0o7777;
    if (found.isSymbolicLink()) {
      yield [path, { type: 'symlink', target: await readlink(place) }];
    } else if (found.isDirectory()) {
      yield [path, { type: 'directory', mode }];
      yield* readTree(folder, path);
    } else if (found.isFile()) {
      yield [path, { type: 'file', mode, data: await readFile(place) }];
    }
  }
}
