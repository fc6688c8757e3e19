/**
 * Debian packages unpacked into a root file system, and dpkg's record of them: what `dpkg --unpack` leaves, without running
 * anything of theirs, as their programs are another processor's. `dpkg --configure -a` in the guest goes on from there.
 *
 * Specification: deb(5), deb-control(5), dpkg(1) "PACKAGE STATES"; the files of its database as dpkg 1.21 writes them
 * ("infodb format 1"). Left out: diversions, triggers that wait.
 */
import { parseStanza } from '../deb822.js';
import type { FetchedPackage } from '../fetch.node.js';
import { runTool } from '../tools.node.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { readTar, type TarEntry } from './tar.js';
import type { RootTree } from './tree.node.js';

/** More than any package of Debian unpacks to. */
const maxUnpacked = 1 << 30;
const database = 'var/lib/dpkg';

/** Unpacks the packages in their order. @param onDone called after each. @throws FarbusError for a damaged one. */
export async function unpackPackages(
  tree: RootTree,
  packages: readonly FetchedPackage[],
  onDone: (one: FetchedPackage) => void,
  signal?: AbortSignal,
): Promise<void> {
  const stanzas: string[] = [];
  // The next package is unpacked while this one is written.
  let next = packages[0] && readDeb(packages[0], signal);
  for (const [index, one] of packages.entries()) {
    const { control, files } = await next!;
    const after = packages[index + 1];
    next = after && readDeb(after, signal);
    // It is waited for in the next round; where this one fails it is nobody's.
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

/** The two archives in a package. */
async function readDeb(one: FetchedPackage, signal: AbortSignal | undefined): Promise<Deb> {
  const part = async (option: string): Promise<TarEntry[]> => {
    const { status, output, errors } = await runTool('dpkg-deb', [option, one.file], {
      maxOutput: maxUnpacked,
      ...(signal && { signal }),
    });
    if (status !== 0) throw new FarbusError(`dpkg-deb cannot read ${one.file}: ${messageOf(errors)}`);
    try {
      return [...readTar(output)];
    } catch (error) {
      throw new FarbusError(`the package ${one.file} is damaged: ${messageOf(error)}`, { cause: error });
    }
  };
  const [control, files] = await Promise.all([part('--ctrl-tarfile'), part('--fsys-tarfile')]);
  return { control, files };
}

/** @returns the package's stanza in dpkg's status file. */
async function putPackage(tree: RootTree, control: readonly TarEntry[], files: readonly TarEntry[]): Promise<string> {
  for (const entry of files) await tree.put(entry);
  const text = Buffer.from(control.find(({ path }) => path === 'control')?.data ?? []).toString();
  const fields = parseStanza(text);
  const name = fields.get('package');
  if (name === undefined) throw new RangeError('it has no control file');
  // infodb format 1: packages of which several architectures may be there have theirs in the files' names.
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

/** deb-control(5)'s stanza with dpkg's own fields. "newconffile" is dpkg's mark of one that was not there before. */
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
