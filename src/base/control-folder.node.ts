/**
 * The folder of control sockets: below $XDG_RUNTIME_DIR (XDG Base Directory Specification 0.8); where that is not set, for root
 * /run/farbus, else below the folder of temporary files.
 *
 * Whoever can enter it may do everything with this user's servers and computers, and whoever made it can put sockets of his
 * own there. So neither servers nor those that ask them use it before it is checked: /tmp is everybody's.
 */
import { lstatSync, mkdirSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { errnoOf, FarbusError, messageOf } from './errors.js';
import { isDead } from './owned.node.js';

/** Where the folder is. It may not be there. */
function controlPath(env: NodeJS.ProcessEnv): string {
  const base = env['XDG_RUNTIME_DIR'];
  // A relative path is invalid by the specification, and ignored.
  if (base !== undefined && isAbsolute(base)) return join(base, 'farbus');
  const uid = process.getuid?.() ?? 0;
  return uid === 0 && process.platform === 'linux' ? '/run/farbus' : join(tmpdir(), `farbus-${uid}`);
}

/** The folder, if it is there. @throws FarbusError where it is not this user's alone. */
export function findControlFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folder = controlPath(env);
  return check(folder) ? folder : undefined;
}

/** The folder, made where it is not there. @throws FarbusError where it cannot be, or is not this user's alone. */
export function controlFolder(env: NodeJS.ProcessEnv = process.env): string {
  const folder = controlPath(env);
  if (check(folder)) return folder;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw refused(folder, messageOf(error));
  }
  // Another process may have been quicker.
  check(folder);
  return folder;
}

/** Whether it is there. */
function check(folder: string): boolean {
  let stat;
  try {
    stat = lstatSync(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw refused(folder, messageOf(error));
  }
  if (stat.isSymbolicLink()) throw refused(folder, 'it is a link: remove it');
  if (!stat.isDirectory()) throw refused(folder, 'it is not a folder: remove it');
  if (process.getuid !== undefined && stat.uid !== process.getuid()) {
    throw refused(folder, 'it is of another user: set XDG_RUNTIME_DIR to a folder of yours');
  }
  if ((stat.mode & 0o077) !== 0) {
    throw refused(folder, 'others have access to it: remove it, or set XDG_RUNTIME_DIR to a folder of yours');
  }
  return true;
}

/** A socket that is younger may be of a process that is about to listen, in ms. */
const youngMs = 10_000;

/**
 * Removes the sockets of processes that were killed: of `NAME-PID.sock` and `NAME.PID.sock` where there is no process PID or
 * it is this one, and each at which nobody listens.
 */
export async function removeDeadSockets(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!/\.(sock|site)$/.test(name)) continue;
    const path = join(folder, name);
    const pid = Number(/[-.](\d+)\.sock$/.exec(name)?.[1] ?? 0);
    let dead = pid > 0 && (pid === process.pid || !isRunning(pid));
    if (!dead) {
      const stat = await lstat(path).catch(() => undefined);
      dead = stat?.isSocket() === true && Date.now() - stat.ctimeMs > youngMs && (await isDead(path));
    }
    if (dead) await rm(path, { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ESRCH';
  }
}

function refused(folder: string, why: string): FarbusError {
  return new FarbusError(`cannot use the folder of control sockets ${folder}: ${why}`);
}
