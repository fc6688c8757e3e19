/**
 * Unpacks Debian packages into a root file system and writes dpkg's database, with the result of
 * `dpkg --unpack`. It runs no program of the packages, because they are for another processor.
 * `dpkg --configure -a` in the guest completes the installation.
 *
 * Specification: deb(5), deb-control(5), dpkg(1) "PACKAGE STATES"; the database files as dpkg 1.21
 * writes them ("infodb format 1").
 *
 * Left out: diversions, pending triggers.
 */
import { parseStanza } from '../deb822.js';
import type { FetchedPackage } from '../fetch.node.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { readDeb } from '../archive/deb.node.js';
import type { TarEntry } from '../archive/tar.js';
import type { RootTree } from './tree.node.js';

const database = 'var/lib/dpkg';

/**
 * Unpacks the packages in the given order.
 * @param onDone Called after each package.
 * @throws FarbusError for a damaged package
 */
export async function unpackPackages(
  tree: RootTree,
  packages: readonly FetchedPackage[],
  onDone: (one: FetchedPackage) => void,
  signal?: AbortSignal,
): Promise<void> {
  const stanzas: string[] = [];
  // Read the next package while this one is written.
  let next = packages[0] && readPackage(packages[0], signal);
  for (const [index, one] of packages.entries()) {
    const { control, files } = await next!;
    const after = packages[index + 1];
    next = after && readPackage(after, signal);
    // The next round awaits this promise. If this round fails, no code does, so mark its rejection
    // as handled.
    next?.catch(() => undefined);
    try {
      stanzas.push(await putPackage(tree, control, files));
    } catch (error) {
      throw new FarbusError(`the package ${one.package} cannot be unpacked: ${messageOf(error)}`, { cause: error });
    }
    onDone(one);
  }
  await tree.write(`${database}/status`, stanzas.join(''));
  await tree.write(`${database}/available`, '');
  await tree.write(`${database}/info/format`, '1\n');
  await tree.write(`${database}/arch-native`, 'i386\n');
  await tree.directory(`${database}/updates`);
  await tree.directory(`${database}/triggers`);
}

interface Deb {
  readonly control: TarEntry[];
  readonly files: TarEntry[];
}

/** Reads the two archives in a package. */
async function readPackage(one: FetchedPackage, signal: AbortSignal | undefined): Promise<Deb> {
  const part = async (name: 'control' | 'data'): Promise<TarEntry[]> => {
    const entries: TarEntry[] = [];
    for await (const entry of readDeb(one.file, name, { signal })) entries.push(entry);
    return entries;
  };
  return { control: await part('control'), files: await part('data') };
}

/**
 * Writes the files of one package and its entries in dpkg's database.
 * @returns The package's stanza for dpkg's status file.
 */
async function putPackage(tree: RootTree, control: readonly TarEntry[], files: readonly TarEntry[]): Promise<string> {
  for (const entry of files) await tree.put(entry);
  const text = Buffer.from(control.find(({ path }) => path === 'control')?.data ?? []).toString();
  const fields = parseStanza(text);
  const name = fields.get('package');
  if (name === undefined) throw new RangeError('it has no control file');
  // infodb format 1: for packages that may be installed for several architectures, the file names
  // include the architecture.
  const same = fields.get('multi-arch') === 'same';
  const info = `${database}/info/${same ? `${name}:${fields.get('architecture')!}` : name}`;
  const paths = files.map(({ path }) => (path === '' ? '/.' : `/${path}`));
  await tree.write(`${info}.list`, paths.map((path) => `${path}\n`).join(''));
  let conffiles = '';
  for (const { path, type, mode, data } of control) {
    if (type !== 'file' || path === 'control') continue;
    await tree.write(`${info}.${path}`, data, mode & 0o111 ? 0o755 : 0o644);
    if (path === 'conffiles') conffiles = Buffer.from(data).toString();
  }
  return stanzaOf(text, conffiles);
}

/**
 * The stanza of deb-control(5) with dpkg's own fields. "newconffile" is dpkg's mark for a
 * configuration file that did not exist before.
 */
function stanzaOf(control: string, conffiles: string): string {
  const lines = control.trimEnd().split('\n');
  const own = conffiles
    .split('\n')
    .filter((line) => line.startsWith('/'))
    .map((line) => ` ${line} newconffile`);
  return [
    lines[0]!,
    'Status: install ok unpacked',
    ...lines.slice(1),
    ...(own.length > 0 ? ['Conffiles:', ...own] : []),
    '',
    '',
  ].join('\n');
}
