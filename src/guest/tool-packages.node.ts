/**
 * Debian packages as they are in the guest's initramfs: their files, without what nobody reads there. Their maintainer
 * scripts are not run, so what those set up (users, alternatives, caches) is not there.
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

/** What only maintainer scripts need: not there unless it is asked for. */
export const maintainerPackages: readonly string[] = [
  'adduser',
  'debconf',
  'dpkg',
  'init-system-helpers',
  'install-info',
  'lsb-base',
  'ucf',
];

/** Folders that stay outside: documentation, languages, what desktops and build tools read. */
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

/** The most that packages may come to, in bytes: the guest has them in memory, and twice while it starts. */
const maxInstalled = 256 << 20;
const maxFiles = 192 << 20;

/** @throws FarbusError that names the largest, where packages are more than a guest in memory can hold. */
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
 * What the packages put into the guest, by path. Where two have a file, the later one's is there.
 * @throws FarbusError where they are too large or cannot be unpacked.
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

/** All below a folder, parents first; what is neither file, folder nor symbolic link does not come in packages. */
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
