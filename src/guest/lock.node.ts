/**
 * The pinned packages of the guest: `packages*.lock.json`, which scripts/update-guest-lock.mjs writes. A checksum here is
 * what makes a download from any mirror trustworthy.
 */
import { readFile } from 'node:fs/promises';
import { FarbusError } from '../base/errors.js';

/** One package file of a Debian archive. */
export interface DebianPackage {
  /** The name that one asks for: "linux-image-686". */
  readonly name: string;
  /** The package's own name where the one asked for only depends on it: "linux-image-6.1.0-50-686". */
  readonly package: string;
  readonly version: string;
  /** Path below the archive's root: "pool/main/…/….deb". */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Lower-case hexadecimal digits. */
  readonly sha256: string;
}

/** The lock file as a whole. */
export interface PackageLock {
  /** "bookworm" */
  readonly suite: string;
  /** "i386" */
  readonly architecture: string;
  /** When the archive held these packages, as snapshot.debian.org writes a time: "20250131T000000Z". */
  readonly snapshot: string;
  readonly packages: readonly DebianPackage[];
}

/** The largest package that is taken, in bytes: hostile sizes end here. */
const maxPackage = 512 * 1024 * 1024;

/** Releases of Debian whose packages are pinned, by their numbers: bookworm and bullseye. */
export type DebianRelease = 12 | 11;

/** The lock files that come with this program. */
const lockFiles: Readonly<Record<DebianRelease, string>> = { 12: 'packages.lock.json', 11: 'packages-11.lock.json' };

/** Reads a lock file that comes with this program. */
export async function readPackageLock(release: DebianRelease = 12): Promise<PackageLock> {
  return readLock(lockFiles[release]);
}

/** Reads the lock file of that name. */
export async function readLock(name: string): Promise<PackageLock> {
  // The same file for src/guest and dist/guest: the compiler copies no data, and the npm package has both folders.
  const file = new URL(`../../src/guest/${name}`, import.meta.url);
  const lock = JSON.parse(await readFile(file, 'utf8')) as PackageLock;
  lock.packages.forEach(checkPackage);
  return lock;
}

/**
 * Takes only what can be a package of an archive, wherever it was read.
 * @throws FarbusError where a field is not of its form.
 */
export function checkPackage(found: DebianPackage): DebianPackage {
  const good =
    [found.name, found.package].every((name) => /^[a-z0-9][a-z0-9+.-]{1,100}$/.test(name)) &&
    /^[A-Za-z0-9.+~:-]{1,100}$/.test(found.version) &&
    /^pool\/[A-Za-z0-9+.~_/-]{1,300}\.deb$/.test(found.path) &&
    !found.path.split('/').includes('..') &&
    Number.isInteger(found.size) &&
    found.size > 0 &&
    found.size <= maxPackage &&
    /^[0-9a-f]{64}$/.test(found.sha256);
  if (!good) throw new FarbusError(`the archive describes a package ${JSON.stringify(found.name)} that cannot be`);
  return found;
}
