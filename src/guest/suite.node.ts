/**
 * The present package list of a Debian suite: the version, file and checksum of each package.
 *
 * Specification: wiki.debian.org/DebianRepository/Format, with the checks of apt-secure(8).
 * InRelease is signed with the archive's keys and has the SHA-256 of Packages.gz, which has the
 * SHA-256 of each package. The signature is checked if `gpgv` and Debian's keyring are installed.
 * Otherwise InRelease is trusted because it came over https, and a warning is logged.
 */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { FarbusError, messageOf } from '../base/errors.js';
import { byMkdtemp, makeOwnedFolder } from '../base/owned.node.js';
import type { Logger } from '../base/log.js';
import { sha256 } from './cache.node.js';
import { PackageIndex } from './dependencies.js';
import { findPackage, parseStanza, releaseFile, withoutSignature } from './deb822.js';
import type { Stanza } from './deb822.js';
import { downloadBytes } from './download.node.js';
import type { DownloadOptions } from './download.node.js';
import { checkPackage } from './lock.node.js';
import type { DebianPackage } from './lock.node.js';
import type { OnProgress } from './progress.js';
import { hasTool, runTool } from './tools.node.js';

const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Maximum size of an InRelease file, in bytes. */
const maxRelease = 8 * 1024 * 1024;
/** Maximum size of a Packages file, packed and unpacked, in bytes. */
const maxPackages = 256 * 1024 * 1024;

export interface SuiteOptions extends DownloadOptions {
  readonly log: Logger;
  readonly onProgress: OnProgress;
  /** Keyring for gpgv. Default: Debian's. */
  readonly keyring?: string | undefined;
}

/** The verified Packages file of one suite and architecture. */
export class Suite {
  readonly #packages: string;
  #index: PackageIndex | undefined;

  constructor(packages: string) {
    this.#packages = packages;
  }

  /** Index of all packages, for callers that look up several. */
  get index(): PackageIndex {
    return (this.#index ??= new PackageIndex(this.#packages));
  }

  /**
   * The package `name`. For a meta-package such as linux-image-686, the package that it depends
   * on.
   * @throws FarbusError if the suite has no such package
   */
  find(name: string): DebianPackage {
    const asked = this.#stanza(name);
    const dependency = metaDependency(asked);
    const real = dependency === undefined ? asked : this.#stanza(dependency);
    return packageOf(name, real);
  }

  #stanza(name: string): Stanza {
    const stanza = findPackage(this.#packages, name);
    if (stanza === undefined) throw new FarbusError(`the Debian archive has no package ${name}`);
    return stanza;
  }
}

/**
 * The package that a stanza describes, with `name` as the requested name.
 * @throws FarbusError if a field is malformed
 */
export function packageOf(name: string, stanza: Stanza): DebianPackage {
  return checkPackage({
    name,
    package: stanza.get('package') ?? '',
    version: stanza.get('version') ?? '',
    path: stanza.get('filename') ?? '',
    size: Number(stanza.get('size')),
    sha256: stanza.get('sha256') ?? '',
  });
}

/**
 * The one dependency of a meta-package, if it has the version of the meta-package. Undefined for
 * any other package.
 */
function metaDependency(stanza: Stanza): string | undefined {
  const [name, relation, version, more] = (stanza.get('depends') ?? '').split(/[ ()]+/);
  const meta = /\bmeta-?package\b/.test(stanza.get('description') ?? '');
  return meta && relation === '=' && version === stanza.get('version') && !more ? name : undefined;
}

/**
 * Reads a suite from a mirror.
 * @throws FarbusError if the suite is not Debian's or has expired
 * @throws DownloadError if it cannot be downloaded
 */
export async function readSuite(
  mirror: string,
  suite: string,
  architecture: string,
  options: SuiteOptions,
): Promise<Suite> {
  return await unpackSuite(await readPackagesFile(mirror, suite, architecture, options));
}

/** Parses a Packages.gz. */
export async function unpackSuite(packed: Uint8Array): Promise<Suite> {
  const text = await promisify(gunzip)(packed, { maxOutputLength: maxPackages });
  return new Suite(text.toString('utf8'));
}

/**
 * Downloads a suite's Packages.gz and verifies it against InRelease. Errors are those of {@link
 * readSuite}.
 */
export async function readPackagesFile(
  mirror: string,
  suite: string,
  architecture: string,
  options: SuiteOptions,
): Promise<Uint8Array> {
  const base = `${mirror}/dists/${suite}`;
  const signed = await downloadBytes(`${base}/InRelease`, maxRelease, () => undefined, options);
  const release = parseStanza(await verified(signed, base, options));
  checkRelease(release, suite, base);

  const path = `main/binary-${architecture}/Packages.gz`;
  const file = releaseFile(release, path);
  if (file === undefined) throw new FarbusError(`${base}/InRelease does not list ${path}: choose another mirror`);
  const label = `Debian's list of packages`;
  const onBytes = (done: number): void => options.onProgress({ label, done, total: file.size });
  const packed = await downloadBytes(`${base}/${path}`, Math.min(file.size, maxPackages), onBytes, options);
  if (packed.length !== file.size || sha256(packed) !== file.sha256) {
    throw new FarbusError(`${base}/${path} is not what InRelease says (the mirror may be changing): try again later`);
  }
  return packed;
}

/** Verifies the signature of an InRelease and returns the signed text. */
async function verified(signed: Uint8Array, base: string, options: SuiteOptions): Promise<string> {
  const keyring = options.keyring ?? debianKeyring;
  if (!hasTool('gpgv') || !existsSync(keyring)) {
    if (!base.startsWith('https:')) {
      throw new FarbusError(
        `the signature of ${base}/InRelease cannot be checked: run "sudo apt-get install gpgv debian-archive-keyring", or take a mirror with https`,
      );
    }
    options.log.log('warn', `the signature of ${base}/InRelease was not checked: gpgv or ${keyring} is missing`);
    return withoutSignature(Buffer.from(signed).toString('utf8'));
  }
  const folder = await makeOwnedFolder(tmpdir(), 'farbus-gpgv-', { before: byMkdtemp });
  try {
    const file = join(folder, 'InRelease');
    await writeFile(file, signed);
    // Use the text that gpgv outputs: it contains the signed part only. The exit status is no proof
    // of a bad signature: it is 2 also if one of several signatures is by a key that an older
    // keyring lacks.
    const args = ['--keyring', keyring, '--status-fd', '2', '--output', '-', file];
    const { output, errors } = await runTool('gpgv', args, { maxOutput: maxRelease, signal: options.signal });
    const status = errors.split('\n').map((line) => line.replace(/^\[GNUPG:\] /, ''));
    if (!status.some((line) => line.startsWith('VALIDSIG ')) || status.some((line) => line.startsWith('BADSIG '))) {
      throw new FarbusError(`${base}/InRelease is not signed by Debian: choose another mirror`);
    }
    return Buffer.from(output).toString('utf8');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function checkRelease(release: Stanza, suite: string, base: string): void {
  if (release.get('codename') !== suite && release.get('suite') !== suite) {
    throw new FarbusError(`${base}/InRelease is not of the suite ${suite}: choose another mirror`);
  }
  const until = Date.parse(release.get('valid-until') ?? '');
  if (until < Date.now()) {
    throw new FarbusError(`${base}/InRelease was valid until ${release.get('valid-until')}: choose another mirror`);
  }
}

/** The error for a suite that could not be read. */
export function suiteFailure(suite: string, error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  return new FarbusError(`cannot read Debian's suite ${suite}: ${messageOf(error)}`, { cause: error });
}
