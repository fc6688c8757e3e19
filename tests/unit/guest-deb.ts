/** Debian packages made by dpkg-deb, and an archive that lists them. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { vi } from 'vitest';
import { sha256 } from '../../src/guest/cache.node.js';
import { tempFolder } from '../support/temp.js';
import { startArchive } from './guest-server.js';
import type { TestArchive } from './guest-server.js';

/** A file of a package: its bytes, the bytes of a program, or the target of a symbolic link. */
export type DebFile = Uint8Array | string | { readonly program: string } | { readonly link: string };

/** Builds a package with `files`, and with `fields` as further lines of its control file. */
export function buildPackage(name: string, files: Record<string, DebFile>, fields: string[] = []): Uint8Array {
  const folder = tempFolder();
  const lines = [`Package: ${name}`, 'Version: 1.0', 'Architecture: i386', 'Maintainer: T <t@example.org>'];
  const control = `${[...lines, ...fields, 'Description: t'].join('\n')}\n`;
  for (const [path, file] of Object.entries<DebFile>({ ...files, 'DEBIAN/control': control })) {
    const place = join(folder, 'tree', path);
    mkdirSync(dirname(place), { recursive: true });
    if (typeof file === 'string' || file instanceof Uint8Array) writeFileSync(place, file);
    else if ('link' in file) symlinkSync(file.link, place);
    else writeFileSync(place, file.program, { mode: 0o755 });
  }
  const deb = join(folder, 'package.deb');
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', join(folder, 'tree'), deb], { stdio: 'ignore' });
  return readFileSync(deb);
}

export interface ListedPackage {
  readonly name: string;
  /** Default: "1.0". */
  readonly version?: string;
  readonly files?: Record<string, DebFile>;
  /** Lines for the control file and the list: "Depends: a, b". */
  readonly fields?: string[];
  /** Bytes to serve instead of the package. */
  readonly data?: Uint8Array;
}

/** The path of a package from {@link listPackages}. */
export function poolPath(name: string, version = '1.0'): string {
  return `/pool/main/${name}_${version}_i386.deb`;
}

const built = new WeakMap<ListedPackage, Uint8Array>();

function dataOf(one: ListedPackage): Uint8Array {
  const data = one.data ?? built.get(one) ?? buildPackage(one.name, one.files ?? {}, one.fields);
  built.set(one, data);
  return data;
}

/**
 * Puts packages into an archive with an unsigned InRelease. They replace the packages listed so
 * far.
 */
export function listPackages(archive: TestArchive, packages: readonly ListedPackage[], suite = 'bookworm'): void {
  const stanzas = packages.map((one) => {
    const { name, version = '1.0', fields = [] } = one;
    const path = poolPath(name, version);
    const deb = dataOf(one);
    archive.files.set(path, deb);
    const lines = [`Package: ${name}`, `Version: ${version}`, ...fields, `Filename: ${path.slice(1)}`];
    return [...lines, `Size: ${deb.length}`, `SHA256: ${sha256(deb)}`, ''].join('\n');
  });
  const list = gzipSync(stanzas.join('\n'));
  const path = 'main/binary-i386/Packages.gz';
  archive.files.set(`/dists/${suite}/${path}`, list);
  const release = `Codename: ${suite}\nSHA256:\n ${sha256(list)} ${list.length} ${path}\n`;
  archive.files.set(`/dists/${suite}/InRelease`, Buffer.from(release));
}

/**
 * Starts an archive whose address begins with https, because unsigned lists are accepted only over
 * https. Requests to it are redirected to the test archive, which serves only http. Undo this with
 * vi.unstubAllGlobals.
 */
export async function startListedArchive(
  packages: readonly ListedPackage[],
): Promise<{ archive: TestArchive; mirror: string; keyring: string }> {
  const archive = await startArchive();
  listPackages(archive, packages);
  const mirror = 'https://archive.test';
  const real = globalThis.fetch;
  vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
    const response = await real(url.replace(mirror, archive.url), init);
    return Object.defineProperty(response, 'url', { value: url });
  });
  return { archive, mirror, keyring: join(tempFolder(), 'none.gpg') };
}
