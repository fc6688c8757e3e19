/**
 * The initramfs that the guest's kernel starts with: busybox and kernel modules out of Debian's packages as they are, an
 * init script, and what the caller adds.
 *
 * The archive is not compressed: at some 4 MB the guest's kernel copies it faster than it unpacks it, and it is in memory
 * of the same computer anyway.
 */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FarbusError, messageOf } from '../base/errors.js';
import { cpioArchive } from './cpio.js';
import type { CpioEntry } from './cpio.js';
import { readModuleInfo } from './modinfo.js';
import { ModuleIndex, aliasTable } from './modules.js';
import type { ModuleFile } from './modules.js';
import { filesBelow } from './unpack.node.js';

/** A file that a caller adds. */
export interface ExtraFile {
  /** Without a leading slash: "root/test.sh". */
  readonly path: string;
  readonly data: Uint8Array;
  /** Permission bits. Default: 0o644. */
  readonly mode?: number;
}

export interface InitramfsOptions {
  /** Folder of the unpacked kernel package. */
  readonly kernelFolder: string;
  /** Folder of the unpacked package busybox-static. */
  readonly busyboxFolder: string;
  /** Modules to load at boot, by name, in order; what they need is added. */
  readonly modules: readonly string[];
  /** Modules that are there for `modprobe`, and for the kernel when it asks for them (a mount), but are not loaded. */
  readonly modulesOnDemand?: readonly string[];
  /** What is there besides, by path; what is this program's own stays as it is. */
  readonly tools?: ReadonlyMap<string, CpioEntry>;
  readonly extraFiles?: readonly ExtraFile[];
  /** The script that is /init. */
  readonly init: string;
}

/** Mount points and such, empty. busybox puts its links into the four of programs. */
const folders = ['bin', 'sbin', 'usr/bin', 'usr/sbin', 'dev', 'etc', 'mnt', 'proc', 'root', 'run', 'sys', 'tmp'];

/**
 * Accounts, by what programs look up: their own user's, and of files by `ls`. tcpdump gives up its rights to a user that its
 * package's scripts make where they are run.
 */
const accounts = [
  ['root', 0, '/root', '/bin/sh'],
  ['tcpdump', 100, '/nonexistent', '/usr/sbin/nologin'],
  ['nobody', 65534, '/nonexistent', '/usr/sbin/nologin'],
] as const;

const passwd = accounts.map(([name, id, home, shell]) => `${name}:x:${id}:${id}:${name}:${home}:${shell}\n`).join('');
const group = accounts.map(([name, id]) => `${name === 'nobody' ? 'nogroup' : name}:x:${id}:\n`).join('');

/**
 * Makes the archive.
 * @throws FarbusError where a module or a part of a package is missing.
 */
export async function buildInitramfs(options: InitramfsOptions): Promise<Uint8Array> {
  try {
    return await build(options);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FarbusError(`cannot make the initramfs: ${messageOf(error)}`, { cause: error });
  }
}

async function build(options: InitramfsOptions): Promise<Uint8Array> {
  const entries = new Map<string, CpioEntry>(options.tools);
  const file = (path: string, data: Uint8Array | string, mode = 0o644): void => {
    entries.set(path, { type: 'file', mode, data: typeof data === 'string' ? Buffer.from(data) : data });
  };
  for (const path of folders) entries.set(path, { type: 'directory', mode: path === 'tmp' ? 0o1777 : 0o755 });
  entries.set('dev/console', { type: 'character', mode: 0o600, major: 5, minor: 1 });
  entries.set('bin/sh', { type: 'symlink', target: 'busybox' });
  file('bin/busybox', await readPart(join(options.busyboxFolder, 'bin/busybox')), 0o755);
  file('init', options.init, 0o755);
  file('etc/passwd', passwd);
  file('etc/group', group);
  file('etc/farbus-modules', options.modules.join('\n') + '\n');

  const { folder, index } = await readModules(options.kernelFolder);
  const files = index.loadOrder([...options.modules, ...(options.modulesOnDemand ?? [])]);
  const inGuest = `lib/modules/${basename(folder)}`;
  for (const { path } of files) file(`${inGuest}/${path}`, await readPart(join(folder, path)));
  file(`${inGuest}/modules.dep`, index.dependencyTable(files));
  file(`${inGuest}/modules.alias`, aliasTable(files));

  for (const extra of options.extraFiles ?? []) file(extra.path, extra.data, extra.mode);
  return cpioArchive(entries);
}

/** The modules of an unpacked kernel package, and the folder lib/modules/VERSION that their paths begin in. */
async function readModules(kernelFolder: string): Promise<{ folder: string; index: ModuleIndex }> {
  const all = await filesBelow(kernelFolder);
  const list = all.find((path) => /^(usr\/)?lib\/modules\/[^/]+\/modules\.builtin$/.test(path));
  if (list === undefined) throw new FarbusError(`${kernelFolder} has no modules of a kernel: delete it and try again`);
  const within = list.slice(0, -'modules.builtin'.length);
  const folder = join(kernelFolder, within);
  const builtIn = (await readFile(join(kernelFolder, list), 'utf8')).split('\n').filter((line) => line !== '');
  const files: ModuleFile[] = [];
  for (const path of all.filter((one) => one.startsWith(within) && one.endsWith('.ko'))) {
    const info = readModuleInfo(await readPart(join(kernelFolder, path)), basename(path, '.ko'));
    files.push({ ...info, path: path.slice(within.length) });
  }
  return {
    folder,
    index: new ModuleIndex(
      files,
      builtIn.map((path) => basename(path, '.ko')),
    ),
  };
}

async function readPart(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new FarbusError(`a part of a package is missing (${messageOf(error)}): delete the cache folder`, {
      cause: error,
    });
  }
}
