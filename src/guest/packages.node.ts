/**
 * Debian packages that are not pinned, with all their dependencies, for one release. They are
 * chosen from the release's signed package list ({@link readPackagesFile}). The choice is kept in
 * the cache, so later runs need no network and use the same files. A new choice is made if the
 * cache is deleted or the archive no longer has one of the packages.
 *
 * Left out: the suites of security updates and backports. Point releases include the security
 * updates.
 */
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError, messageOf, usageError } from '../base/errors.js';
import { silent } from '../base/log.js';
import { cacheFolder, cachedFiles, readCachedFiles, replaceInCache, sha256 } from './cache.node.js';
import { markUsed } from './cache-use.node.js';
import { dependencyClosure } from './dependencies.js';
import { fetchFiles, mirrorsOf } from './fetch.node.js';
import type { FetchOptions, FetchedPackage } from './fetch.node.js';
import { checkPackage, readPackageLock } from './lock.node.js';
import type { DebianPackage, PackageLock } from './lock.node.js';
import { packageOf, readPackagesFile, unpackSuite } from './suite.node.js';
import type { Suite } from './suite.node.js';

/** A package of a dependency list. */
export interface NeededPackage extends DebianPackage {
  /** Installed size that the package declares, in bytes. */
  readonly installed: number;
}

export interface PackageChoice extends FetchOptions {
  /** Lock file that defines the release (suite and architecture). Default: Debian 12's. */
  readonly lock?: PackageLock | undefined;
  /** Add the packages that every system of the release has: priority required, or essential. */
  readonly required?: boolean;
  /**
   * Names of packages regarded as installed. The list omits them and what only they need, unless
   * they are requested.
   */
  readonly without?: readonly string[];
  /** Throws if the list cannot be used, before it is cached and before any package is fetched. */
  readonly check?: (packages: readonly NeededPackage[]) => void;
}

/** Time for which a cached package list counts as current. */
const indexLifeMs = 24 * 60 * 60 * 1000;
/** Maximum number of requested packages. */
const maxNames = 64;
/** Version of the choice rules. Raise it when the same names lead to other packages. */
const choiceFormat = 1;

/**
 * The packages `wanted` (names) and their dependencies, each after its own dependencies. Fetches
 * none of them.
 * @throws FarbusError if the release does not have a name, or if its list cannot be obtained
 */
export async function choosePackages(wanted: readonly string[], options: PackageChoice = {}): Promise<NeededPackage[]> {
  const names = checkedNames(wanted);
  const lock = options.lock ?? (await readPackageLock());
  const kept = await readChoice(choiceFile(names, lock, options));
  if (kept !== undefined) {
    options.check?.(kept);
    return kept;
  }
  return await chooseAnew(names, lock, options, false);
}

/**
 * The packages that {@link choosePackages} returns, downloaded if they are not in the cache.
 * @throws FarbusError if one cannot be obtained
 */
export async function fetchWithDependencies(
  wanted: readonly string[],
  options: PackageChoice = {},
): Promise<FetchedPackage[]> {
  const names = checkedNames(wanted);
  const lock = options.lock ?? (await readPackageLock());
  const chosen = await choosePackages(names, options);
  const fetched = await fetchFiles(chosen, lock, options);
  if (fetched !== undefined) return fetched;
  // The archive has newer versions: choose again.
  const anew = await chooseAnew(names, lock, options, true);
  const again = await fetchFiles(anew, lock, options);
  if (again !== undefined) return again;
  throw new FarbusError(`the Debian archive does not have what it lists for ${names.join(', ')}: try again later`);
}

/** Checks, deduplicates and sorts the names: the choice must not depend on their order. */
function checkedNames(wanted: readonly string[]): string[] {
  const names = [...new Set(wanted)].sort();
  if (names.length > maxNames) throw usageError(`${names.length} packages are too many: ${maxNames} at most`);
  const bad = names.find((name) => !/^[a-z0-9][a-z0-9+.-]{1,100}$/.test(name));
  if (bad !== undefined) throw usageError(`${JSON.stringify(bad)} cannot be the name of a Debian package`);
  return names;
}

async function chooseAnew(
  names: readonly string[],
  lock: PackageLock,
  options: PackageChoice,
  fresh: boolean,
): Promise<NeededPackage[]> {
  const { index } = await readIndex(lock, options, fresh).catch((error: unknown) => {
    if (error instanceof FarbusError) throw error;
    throw new FarbusError(
      `cannot get Debian's list of packages: ${messageOf(error)}; check the network, or set FARBUS_DEBIAN_MIRROR to a Debian archive that is within reach`,
      { cause: error },
    );
  });
  const all = [...names, ...(options.required ? index.required() : [])];
  const stanzas = dependencyClosure(index, all, options);
  const chosen = stanzas.map((stanza): NeededPackage => {
    const kibibytes = Number(stanza.get('installed-size') ?? '0');
    const installed = Number.isSafeInteger(kibibytes) && kibibytes >= 0 ? kibibytes * 1024 : 0;
    return { ...packageOf(stanza.get('package') ?? '', stanza), installed };
  });
  options.check?.(chosen);
  await replaceInCache(choiceFile(names, lock, options), JSON.stringify(chosen));
  return chosen;
}

/**
 * The release's package list: from the cache, or from the archive if that is too old or `fresh` is
 * set.
 */
async function readIndex(lock: PackageLock, options: PackageChoice, fresh: boolean): Promise<Suite> {
  const folder = join(options.cacheDir ?? cacheFolder(), 'suites', `${lock.suite}-${lock.architecture}`);
  const file = 'Packages.gz' as const;
  const made = await stat(join(folder, file)).catch(() => undefined);
  if (!fresh && made !== undefined && Math.abs(Date.now() - made.mtimeMs) < indexLifeMs) {
    const kept = await readCachedFiles(folder, [file]);
    if (kept !== undefined) return await unpackSuite(kept[file]);
  }
  const packed = await readPackagesFile(mirrorsOf(lock, options.mirror)[0]!, lock.suite, lock.architecture, {
    ...options,
    log: options.log ?? silent,
    onProgress: options.onProgress ?? (() => undefined),
  });
  await rm(folder, { recursive: true, force: true });
  await cachedFiles(folder, [file], async () => ({ [file]: packed }));
  return await unpackSuite(packed);
}

function choiceFile(names: readonly string[], lock: PackageLock, options: PackageChoice): string {
  const { suite, architecture } = lock;
  const inputs = [choiceFormat, suite, architecture, names, options.required ?? false, options.without ?? []];
  return join(options.cacheDir ?? cacheFolder(), 'choices', `${sha256(JSON.stringify(inputs)).slice(0, 32)}.json`);
}

async function readChoice(file: string): Promise<NeededPackage[] | undefined> {
  try {
    await markUsed(file);
    const kept = JSON.parse(await readFile(file, 'utf8')) as NeededPackage[];
    kept.forEach(checkPackage);
    return kept;
  } catch {
    return undefined;
  }
}
