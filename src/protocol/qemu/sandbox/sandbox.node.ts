/**
 * Runs QEMU's programs in a sandbox: they can access the given files, and nothing else on this
 * computer or its network (docs/security.md). It uses Landlock if the kernel has it and koffi is
 * installed, else bubblewrap if that works, else no sandbox.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programFolders, type Reach } from './confine.node.js';
import { koffi } from '../../../linux/koffi.node.js';
import { landlockVersion } from '../../../linux/landlock.node.js';
import { seccompProgram } from '../../../linux/seccomp.node.js';

export type SandboxKind = 'landlock' | 'bubblewrap' | 'none';

/** A file or device that the program may access. */
export interface ReachedFile {
  readonly fd: number;
  /** The path, if the program opens it by path; otherwise the program uses the descriptor. */
  readonly path?: string;
  readonly writable: boolean;
  readonly isDevice: boolean;
}

export interface SandboxOptions {
  /** They become the program's descriptors from {@link firstFile} on, in this order. */
  readonly files: readonly ReachedFile[];
  /** Folder in which it creates its socket. */
  readonly socketFolder?: string;
}

/** The program's descriptor of the first file, after stdin, stdout and stderr. */
const firstFile = 3;

const variables = ['PATH', 'LD_LIBRARY_PATH'];

let found: SandboxKind | undefined;

/** The sandbox available on this computer. FARBUS_NO_SANDBOX turns it off. */
export function sandboxKind(): SandboxKind {
  if (process.env['FARBUS_NO_SANDBOX']) return 'none';
  found ??= hasLandlock() ? 'landlock' : hasBubblewrap() ? 'bubblewrap' : 'none';
  return found;
}

function hasLandlock(): boolean {
  return koffi() !== undefined && seccompProgram(process.arch) !== undefined && landlockVersion() > 0;
}

/** Tries bubblewrap: it may be installed but not work, if users may not create namespaces. */
function hasBubblewrap(): boolean {
  if (process.platform !== 'linux') return false;
  return spawnSync('bwrap', [...bubblewrap([]), '/bin/true'], { stdio: 'ignore' }).status === 0;
}

function bubblewrap(more: readonly string[]): string[] {
  const folders = [...programFolders, '/etc/ld.so.cache'].filter((path) => existsSync(path));
  return [
    ...folders.flatMap((path) => ['--ro-bind', path, path]),
    ...['--proc', '/proc', '--dev', '/dev', '--ro-bind', '/sys', '/sys'],
    ...['--unshare-net', '--unshare-ipc', '--unshare-uts', '--unshare-pid', '--die-with-parent', '--cap-drop', 'ALL'],
    ...more,
  ];
}

/** The absolute path of a program; undefined if it is not installed. */
export function findProgram(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = resolve(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Starts `program` (an absolute path) in the sandbox. Its stderr is a pipe. */
export function spawnInSandbox(program: string, args: readonly string[], options: SandboxOptions): ChildProcess {
  const [outer, ...outerArgs] = command(program, args, options);
  return spawn(outer!, outerArgs, {
    stdio: ['ignore', 'ignore', 'pipe', ...options.files.map(({ fd }) => fd)],
    cwd: '/',
    // Pass no other variable: the environment may hold tokens and passwords.
    env: Object.fromEntries(variables.map((name) => [name, process.env[name]])),
    // Ctrl-C must only reach this process: the program has to serve until our requests in flight
    // are done.
    detached: true,
  });
}

function command(program: string, args: readonly string[], { files, socketFolder }: SandboxOptions): string[] {
  switch (sandboxKind()) {
    case 'landlock': {
      const reach: Reach = {
        files: files.map(({ writable, isDevice }, index) => ({
          fd: firstFile + index,
          to: `${isDevice ? 'device-' : ''}${writable ? 'write' : 'read'}` as const,
        })),
        ...(socketFolder !== undefined && { socketFolder }),
        parent: process.pid,
      };
      const launcher = fileURLToPath(new URL('../../../../bin/confine.js', import.meta.url));
      return [process.execPath, launcher, JSON.stringify(reach), program, ...args];
    }
    case 'bubblewrap': {
      const byPath = files.flatMap(({ path, writable, isDevice }) =>
        path === undefined ? [] : [isDevice ? '--dev-bind' : writable ? '--bind' : '--ro-bind', path, path],
      );
      const folder = socketFolder === undefined ? [] : ['--bind', socketFolder, socketFolder];
      const own = ['--ro-bind', dirname(program), dirname(program)];
      return ['bwrap', ...bubblewrap([...own, ...byPath, ...folder]), '--', program, ...args];
    }
    case 'none':
      return [program, ...args];
  }
}

/** The path by which a program opens one of its descriptors. */
export function descriptorPath(index: number): string {
  return join(process.platform === 'linux' ? '/proc/self/fd' : '/dev/fd', String(firstFile + index));
}
