/**
 * The guest's pinned packages: `packages*.lock.json`, written by scripts/update-guest-lock.mjs.
 * Their checksums make a download from any mirror trustworthy.
 */
import { readFile } from 'node:fs/promises';
import { FarbusError } from '../base/errors.js';

/** One package file of a Debian archive. */
export interface DebianPackage {
  /** Requested name: "linux-image-686". */
  readonly name: string;
  /**
   * Name of the package itself; differs if the requested one is a meta-package that depends on it:
   * "linux-image-6.1.0-50-686".
   */
  readonly package: string;
  readonly version: string;
  /** Path below the archive's root: "pool/main/…/….deb". */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Lower-case hexadecimal digits. */
  readonly sha256: string;
}

/** Contents of a lock file. */
export interface PackageLock {
  /** For example "bookworm". */
  readonly suite: string;
  /** For example "i386". */
  readonly architecture: string;
  /**
   * A time at which the archive held these packages, in the format of snapshot.debian.org:
   * "20250131T000000Z".
   */
  readonly snapshot: string;
  readonly packages: readonly DebianPackage[];
}

/** Maximum size of a package in bytes, against hostile sizes. */
const maxPackage = 512 * 1024 * 1024;

/** Debian releases with pinned packages: 12 (bookworm) and 11 (bullseye). */
export type DebianRelease = 12 | 11;

/** Debian's names of the processors that its kernels are for. */
export type Architecture = 'i386' | 'amd64';

/** Lock files that come with this program. */
const lockFiles: Readonly<Record<Architecture, Partial<Record<DebianRelease, string>>>> = {
  i386: { 12: 'packages.lock.json', 11: 'packages-11.lock.json' },
  amd64: { 12: 'packages-amd64.lock.json' },
};

/**
 * Reads the lock file of a release.
 * @throws FarbusError if no packages of this release are pinned for the architecture
 */
export async function readPackageLock(
  release: DebianRelease = 12,
  architecture: Architecture = 'i386',
): Promise<PackageLock> {
  const name = lockFiles[architecture][release];
  if (name === undefined) throw new FarbusError(`there is no Debian ${release} for ${architecture}: take Debian 12`);
  return readLock(name);
}

/** Reads the lock file `name`, one of those that come with this program. */
export async function readLock(name: string): Promise<PackageLock> {
  // src/guest and dist/guest use the same file: the compiler copies no data files, and the npm
  // package has both folders.
  const file = new URL(`../../src/guest/${name}`, import.meta.url);
  const lock = JSON.parse(await readFile(file, 'utf8')) as PackageLock;
  lock.packages.forEach(checkPackage);
  return lock;
}

/**
 * Checks that all fields of a package have the form that a Debian archive uses, whatever their
 * source.
 * @throws FarbusError if a field is malformed
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
