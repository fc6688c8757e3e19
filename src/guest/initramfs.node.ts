/**
 * Builds the guest's initramfs: busybox and kernel modules, unmodified from Debian's packages, an
 * init script, and files of the caller.
 *
 * The archive (some 4 MB) is not compressed: the guest's kernel copies it faster than it would
 * decompress it, and it never leaves this computer's memory.
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

/** A file that the caller adds. */
export interface ExtraFile {
  /** Path without a leading slash: "root/test.sh". */
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
  /** Names of modules to load at boot, in order. Their dependencies are added. */
  readonly modules: readonly string[];
  /**
   * Modules that are included but not loaded: `modprobe`, or the kernel at a mount, can load them.
   */
  readonly modulesOnDemand?: readonly string[];
  /** Further entries by path. They do not replace the files written here. */
  readonly tools?: ReadonlyMap<string, CpioEntry>;
  readonly extraFiles?: readonly ExtraFile[];
  /** The contents of /init. */
  readonly init: string;
}

/**
 * Empty folders, such as mount points. busybox puts its links into the four folders of programs.
 */
const folders = ['bin', 'sbin', 'usr/bin', 'usr/sbin', 'dev', 'etc', 'mnt', 'proc', 'root', 'run', 'sys', 'tmp'];

/**
 * Accounts. Programs look up their own user, and `ls` the owners of files. tcpdump switches to the
 * user `tcpdump`, which its package's script would otherwise create.
 */
const accounts = [
  ['root', 0, '/root', '/bin/sh'],
  ['tcpdump', 100, '/nonexistent', '/usr/sbin/nologin'],
  ['nobody', 65534, '/nonexistent', '/usr/sbin/nologin'],
] as const;

const passwd = accounts.map(([name, id, home, shell]) => `${name}:x:${id}:${id}:${name}:${home}:${shell}\n`).join('');
const group = accounts.map(([name, id]) => `${name === 'nobody' ? 'nogroup' : name}:x:${id}:\n`).join('');

/**
 * Builds the archive.
 * @throws FarbusError if a module or a part of a package is missing
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

/**
 * Reads the modules of an unpacked kernel package. `folder` is lib/modules/VERSION, to which their
 * paths are relative.
 */
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
