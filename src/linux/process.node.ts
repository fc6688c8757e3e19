/**
 * System calls that change this process: _exit(2), prctl(2), fcntl(2), execv(3).
 *
 * Not here: restricting it (landlock.node.ts, seccomp.node.ts).
 */
import { bindOnce, requireKoffi } from './koffi.node.js';
import { systemError } from './system-error.node.js';

const F_SETFD = 2;
const PR_SET_PDEATHSIG = 1;
const PR_SET_NO_NEW_PRIVS = 38;
const SIGTERM = 15;

/** _exit(2), which does not wait for threads; undefined without koffi. */
export const systemExit = bindOnce(
  (koffi) => koffi.load(null).func('void _exit(int status)') as (status: number) => void,
);

function control(option: number, value: number): void {
  const koffi = requireKoffi('prctl');
  const prctl = koffi.load(null).func('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
  if ((prctl(option, value, 0, 0, 0) as number) !== 0) throw systemError('prctl', koffi.errno());
}

/** Ends this process when its parent ends, even if another program is executed in it. */
export function endWithParent(): void {
  control(PR_SET_PDEATHSIG, SIGTERM);
}

/**
 * Forbids this process and its children to gain rights by execve, as Landlock and seccomp demand.
 */
export function gainNoRights(): void {
  control(PR_SET_NO_NEW_PRIVS, 1);
}

/**
 * Executes another program in this process.
 * @param program absolute path
 * @param descriptors descriptors that stay open. Node sets close-on-exec on all that it inherits.
 * @throws Error if the program cannot be executed
 */
export function execute(program: string, args: readonly string[], descriptors: readonly number[]): never {
  const koffi = requireKoffi(program);
  const fcntl = koffi.load(null).func('fcntl', 'int', ['int', 'int', 'long']);
  for (const fd of descriptors) fcntl(fd, F_SETFD, 0);
  const execv = koffi.load(null).func('execv', 'int', ['str', 'str *']);
  execv(program, [program, ...args, null]);
  throw systemError('execv', koffi.errno());
}
