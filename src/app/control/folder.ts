/**
 * The folder of control sockets: $XDG_RUNTIME_DIR/farbus (XDG Base Directory Specification 0.8). If
 * that variable is not set: /run/farbus for root on Linux, otherwise farbus-UID in the folder of
 * temporary files.
 *
 * A user who can enter the folder controls this user's servers and computers, and a user who made
 * it can put false sockets there. Every user can write to /tmp. So servers and their clients check
 * the folder's owner and permissions before they use it.
 */
import { lstatSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../../base/errors.js';
import { makeFolders } from '../../base/folders.node.js';
import { isDead, isRunning } from '../../base/owned.node.js';

/** The path of the folder, which need not exist. */
function controlPath(env: NodeJS.ProcessEnv): string {
  const base = env['XDG_RUNTIME_DIR'];
  // The specification tells programs to ignore a relative path.
  if (base !== undefined && isAbsolute(base)) return join(base, 'farbus');
  const uid = process.getuid?.() ?? 0;
  return uid === 0 && process.platform === 'linux' ? '/run/farbus' : join(tmpdir(), `farbus-${uid}`);
}

/**
 * The folder, if it exists.
 * @throws FarbusError if another user owns it or has access to it
 */
export function findControlFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folder = controlPath(env);
  return check(folder) ? folder : undefined;
}

/**
 * The folder, which is made if it does not exist.
 * @throws FarbusError if it cannot be made, or if another user owns it or has access to it
 */
export function controlFolder(env: NodeJS.ProcessEnv = process.env): string {
  const folder = controlPath(env);
  if (check(folder)) return folder;
  try {
    makeFolders(folder, 0o700);
  } catch (error) {
    throw refused(folder, messageOf(error));
  }
  // Check again: mkdir also succeeds for a folder that another process has just made.
  check(folder);
  return folder;
}

/** True if the folder exists and is safe to use. @throws FarbusError if it is not safe */
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

/** A younger socket may belong to a process that has bound it and does not listen yet, in ms. */
const youngMs = 10_000;

/**
 * Removes the sockets that killed processes have left: those that refuse connections, and
 * whose name has the id of a process that has ended or of this one, or that are no longer young.
 */
export async function removeDeadSockets(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.sock')) continue;
    const path = join(folder, name);
    const pid = Number(/^(?:serve-|.*\.)(\d+)\.sock$/.exec(name)?.[1] ?? 0);
    const ended = pid > 0 && (pid === process.pid || !isRunning(pid));
    const stat = await lstat(path).catch(() => undefined);
    if (!stat || (!ended && !(stat.isSocket() && Date.now() - stat.ctimeMs > youngMs))) continue;
    // A failure is ignored: it does not hinder this process.
    if (await isDead(path)) await rm(path, { force: true }).catch(() => undefined);
  }
}

function refused(folder: string, why: string): FarbusError {
  return new FarbusError(`cannot use the folder of control sockets ${folder}: ${why}`);
}
