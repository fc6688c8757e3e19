/**
 * A process that restricts itself and then executes another program (bin/confine.js). Node cannot
 * restrict a child process, so this process runs in between. Only sandbox.node.ts starts it.
 */
import { constants, existsSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { restrictToGrants, type LandlockGrant } from '../../../linux/landlock.node.js';
import { endWithParent, execute } from '../../../linux/process.node.js';
import { filterSystemCalls } from '../../../linux/seccomp.node.js';

/** Files that the program may access, besides its own code. */
export interface Reach {
  /** Open descriptors of files and devices. The program may also open these files by name. */
  readonly files: readonly Pick<LandlockGrant, 'fd' | 'to'>[];
  /** Folder in which it creates its socket. */
  readonly socketFolder?: string;
  /** Id of the process that starts it; it ends with that process. */
  readonly parent: number;
}

/** Folders of programs and libraries on all distributions. */
export const programFolders = ['/usr', '/lib', '/lib32', '/lib64', '/bin', '/sbin', '/nix/store', '/gnu/store'];
/**
 * Files that the loader and libraries read. In /sys is the maximum request size of a block device.
 */
const readable = ['/etc/ld.so.cache', '/etc/ld.so.preload', '/dev/urandom'];
const deviceFacts = ['/sys/dev/block', '/sys/devices'];

/** Linux's O_PATH, which Node does not define. */
const O_PATH = 0o10000000;

/**
 * Executes `program` (an absolute path) in this process, restricted to `reach`.
 * @throws Error if that fails
 */
export function confine(reach: Reach, program: string, args: readonly string[]): never {
  const at = (path: string, to: LandlockGrant['to']): LandlockGrant[] =>
    existsSync(path) ? [{ fd: openSync(path, O_PATH | (constants.O_NONBLOCK ?? 0)), to }] : [];
  restrictToGrants([
    ...reach.files,
    ...[...programFolders, dirname(program)].flatMap((path) => at(path, 'programs')),
    ...readable.flatMap((path) => at(path, 'read')),
    ...deviceFacts.flatMap((path) => at(path, 'programs')),
    ...at('/dev/null', 'write'),
    ...(reach.socketFolder === undefined ? [] : at(reach.socketFolder, 'socket')),
  ]);
  filterSystemCalls();
  // End with farbus: if farbus is killed before it connects, the program would wait for a client
  // for ever.
  endWithParent();
  if (process.ppid !== reach.parent) throw new Error('its starter has ended');
  execute(program, args, [0, 1, 2, ...reach.files.map((file) => file.fd)]);
}
