/**
 * A process that confines itself and then becomes another program (bin/confine.js): Node can do neither to a child, so
 * this runs between the two. Started by sandbox.node.ts, and by nothing else.
 */
import { constants, existsSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { restrictToGrants, type LandlockGrant } from './landlock.node.js';
import { filterSystemCalls } from './seccomp.node.js';

/** What the program may reach, besides its own code. */
export interface Reach {
  /** Its open descriptors of files and devices, which it may also open by name. */
  readonly files: readonly Pick<LandlockGrant, 'fd' | 'to'>[];
  /** A folder in which it makes a socket. */
  readonly socketFolder?: string;
  /** The process that starts it, and without which it ends. */
  readonly parent: number;
}

/** Folders of programs and libraries, on all distributions. */
export const programFolders = ['/usr', '/lib', '/lib32', '/lib64', '/bin', '/sbin', '/nix/store', '/gnu/store'];
/** Single files that the loader and libraries read. /sys/... tells how long requests to a block device may be. */
const readable = ['/etc/ld.so.cache', '/etc/ld.so.preload', '/dev/urandom'];
const deviceFacts = ['/sys/dev/block', '/sys/devices'];

const F_SETFD = 2;
const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;
/** O_PATH of Linux, which Node does not name. */
const O_PATH = 0o10000000;

/** Becomes `program`, an absolute path, confined to `reach`. @throws Error where that cannot be. */
export function confine(reach: Reach, program: string, args: readonly string[]): never {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const at = (path: string, to: LandlockGrant['to']): LandlockGrant[] =>
    existsSync(path) ? [{ fd: openSync(path, O_PATH | (constants.O_NONBLOCK ?? 0)), to }] : [];
  restrictToGrants(koffi, [
    ...reach.files,
    ...[...programFolders, dirname(program)].flatMap((path) => at(path, 'programs')),
    ...readable.flatMap((path) => at(path, 'read')),
    ...deviceFacts.flatMap((path) => at(path, 'programs')),
    ...at('/dev/null', 'write'),
    ...(reach.socketFolder === undefined ? [] : at(reach.socketFolder, 'socket')),
  ]);
  filterSystemCalls(koffi);
  // If farbus is killed before the program has its first client, the program would wait for one for ever.
  koffi.load(null).func('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong'])(
    PR_SET_PDEATHSIG,
    SIGTERM,
    0,
    0,
    0,
  );
  if (process.ppid !== reach.parent) throw new Error('its starter has ended');
  // Node marks all descriptors that it inherits to be closed by execve(2).
  const fcntl = koffi.load(null).func('fcntl', 'int', ['int', 'int', 'long']);
  for (const fd of [0, 1, 2, ...reach.files.map((file) => file.fd)]) fcntl(fd, F_SETFD, 0);
  const execv = koffi.load(null).func('execv', 'int', ['str', 'str *']);
  execv(program, [program, ...args, null]);
  throw new Error(`execv: errno ${koffi.errno()}`);
}
