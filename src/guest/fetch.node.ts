/**
 * Downloads pinned Debian packages (packages.lock.json) into the cache folder. It tries the
 * archive, then Debian's archive of old versions; if a version is gone from both, it takes the
 * suite's present one. Every file is verified with a SHA-256 from the lock file or from a signed
 * InRelease.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FarbusError, usageError } from '../base/errors.js';
import { silent } from '../base/log.js';
import type { Logger } from '../base/log.js';
import { cacheFolder, prepareFolder, replaceInCache } from './cache.node.js';
import { markUsed } from './cache-use.node.js';
import { DownloadError, downloadFile } from './download.node.js';
import type { DownloadOptions } from './download.node.js';
import { checkPackage, readPackageLock } from './lock.node.js';
import type { DebianPackage, PackageLock } from './lock.node.js';
import type { OnProgress } from './progress.js';
import { readSuite, suiteFailure } from './suite.node.js';
import type { Suite } from './suite.node.js';

/** A package in the cache. */
export interface FetchedPackage extends DebianPackage {
  /** Path of the .deb file. */
  readonly file: string;
}

export interface FetchOptions extends DownloadOptions {
  /** Default: {@link cacheFolder}. */
  readonly cacheDir?: string | undefined;
  /** Root URL of a Debian archive. Default: FARBUS_DEBIAN_MIRROR, else Debian's own. */
  readonly mirror?: string | undefined;
  readonly onProgress?: OnProgress | undefined;
  readonly log?: Logger | undefined;
  /** Default: the program's own lock file. */
  readonly lock?: PackageLock | undefined;
  /** Keyring for the suite's signature. Default: Debian's. */
  readonly keyring?: string | undefined;
}

const debianArchive = 'https://deb.debian.org/debian';
const snapshotArchive = 'https://snapshot.debian.org/archive/debian';

/** The archives to try for a package of `lock`, in order, without trailing slashes. */
export function mirrorsOf(lock: PackageLock, mirror = process.env['FARBUS_DEBIAN_MIRROR']): string[] {
  if (mirror === undefined || mirror === '') return [debianArchive, `${snapshotArchive}/${lock.snapshot}`];
  if (!URL.canParse(mirror) || !/^https?:$/.test(new URL(mirror).protocol)) {
    throw usageError(`FARBUS_DEBIAN_MIRROR is ${JSON.stringify(mirror)}: give a URL such as ${debianArchive}`);
  }
  return [mirror.replace(/\/+$/, '')];
}

/**
 * The packages `names` of the lock file, downloaded if they are not in the cache. If the cache has
 * all of them, no network is needed.
 * @throws FarbusError if one cannot be obtained
 */
export async function fetchPackages(names: readonly string[], options: FetchOptions = {}): Promise<FetchedPackage[]> {
  const lock = options.lock ?? (await readPackageLock());
  const fetcher = new Fetcher(lock, options);
  const fetched: FetchedPackage[] = [];
  for (const name of names) fetched.push(await fetcher.fetch(pinned(lock, name)));
  return fetched;
}

/**
 * Exactly these packages, downloaded if they are not in the cache. Undefined if the archive no
 * longer has one of them.
 * @throws FarbusError if one cannot be obtained for another reason
 */
export async function fetchFiles(
  packages: readonly DebianPackage[],
  lock: PackageLock,
  options: FetchOptions = {},
): Promise<FetchedPackage[] | undefined> {
  const fetcher = new Fetcher(lock, options);
  const fetched: FetchedPackage[] = [];
  for (const one of packages) {
    const file = await fetcher.get(one);
    if (file === undefined) return undefined;
    fetched.push(file);
  }
  return fetched;
}

/**
 * The packages that {@link fetchPackages} would return, as far as they are known without the
 * network. They need not be in the cache.
 */
export async function knownPackages(names: readonly string[], options: FetchOptions = {}): Promise<DebianPackage[]> {
  const lock = options.lock ?? (await readPackageLock());
  const cacheDir = options.cacheDir ?? cacheFolder();
  return await Promise.all(
    names.map(async (name) => (await readReplacement(cacheDir, pinned(lock, name))) ?? pinned(lock, name)),
  );
}

function pinned(lock: PackageLock, name: string): DebianPackage {
  const found = lock.packages.find((one) => one.name === name);
  if (found === undefined) throw new FarbusError(`the package ${name} is not in packages.lock.json`);
  return found;
}

class Fetcher {
  readonly #lock: PackageLock;
  readonly #options: FetchOptions;
  readonly #cacheDir: string;
  readonly #mirrors: readonly string[];
  #suite: Promise<Suite> | undefined;

  constructor(lock: PackageLock, options: FetchOptions) {
    this.#lock = lock;
    this.#options = options;
    this.#cacheDir = options.cacheDir ?? cacheFolder();
    this.#mirrors = mirrorsOf(lock, options.mirror);
  }

  async fetch(wanted: DebianPackage): Promise<FetchedPackage> {
    const before = await readReplacement(this.#cacheDir, wanted);
    const found =
      (before === undefined ? undefined : await this.get(before)) ??
      (await this.get(wanted)) ??
      (await this.#present(wanted));
    return found;
  }

  /** Gets a package from the cache or a mirror; undefined if it is gone. */
  async get(one: DebianPackage): Promise<FetchedPackage | undefined> {
    const file = packageFile(this.#cacheDir, one);
    await markUsed(file);
    if (await isWhole(file, one)) return { ...one, file };
    await prepareFolder(join(this.#cacheDir, 'packages'));
    const failures: DownloadError[] = [];
    for (const mirror of this.#mirrors) {
      // The path needs no escaping: paths of a pool may contain "~" and "+", which are sent
      // literally.
      const url = `${mirror}/${one.path}`;
      const onBytes = (done: number): void => this.#options.onProgress?.({ label: one.package, done, total: one.size });
      try {
        onBytes(0);
        await downloadFile(url, file, one, onBytes, this.#options);
        return { ...one, file };
      } catch (error) {
        if (!(error instanceof DownloadError)) throw error;
        failures.push(error);
      }
    }
    if (failures.some((failure) => failure.fault === 'gone')) return undefined;
    throw new FarbusError(
      `cannot get the package ${one.package}: ${failures[0]!.message}; check the network, or set FARBUS_DEBIAN_MIRROR to a Debian archive that is within reach`,
      { cause: failures[0] },
    );
  }

  /** Gets the suite's present version instead of the pinned one. */
  async #present(wanted: DebianPackage): Promise<FetchedPackage> {
    const { suite, architecture } = this.#lock;
    const log = this.#options.log ?? silent;
    this.#suite ??= readSuite(this.#mirrors[0]!, suite, architecture, {
      ...this.#options,
      log,
      onProgress: this.#options.onProgress ?? (() => undefined),
    });
    const present = await this.#suite
      .then((read) => read.find(wanted.name))
      .catch((error: unknown) => {
        throw suiteFailure(suite, error);
      });
    log.log('info', `${wanted.package} ${wanted.version} has left the archive: taking ${present.version}`);
    const fetched = await this.get(present);
    if (fetched === undefined) {
      throw new FarbusError(`the Debian archive lists ${present.path} but does not have it: try again later`);
    }
    await replaceInCache(replacementFile(this.#cacheDir, wanted), JSON.stringify(present));
    return fetched;
  }
}

function packageFile(cacheDir: string, one: DebianPackage): string {
  return join(cacheDir, 'packages', `${one.sha256.slice(0, 16)}-${one.path.split('/').at(-1)!}`);
}

/** The file that records which package was taken instead of a pinned one. */
function replacementFile(cacheDir: string, wanted: DebianPackage): string {
  return join(cacheDir, 'packages', `${wanted.sha256.slice(0, 16)}-replacement.json`);
}

async function readReplacement(cacheDir: string, wanted: DebianPackage): Promise<DebianPackage | undefined> {
  try {
    const text = await readFile(replacementFile(cacheDir, wanted), 'utf8');
    return checkPackage(JSON.parse(text) as DebianPackage);
  } catch {
    return undefined;
  }
}

/** True if the file exists and has the package's size and checksum. */
async function isWhole(file: string, one: DebianPackage): Promise<boolean> {
  try {
    if ((await stat(file)).size !== one.size) return false;
    const hash = createHash('sha256');
    await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
    return hash.digest('hex') === one.sha256;
  } catch {
    return false;
  }
}
