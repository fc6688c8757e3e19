/**
 * Temporary files and folders whose names contain the process that owns them. A later process can
 * so remove the files of killed processes and keep those of living ones.
 *
 * A name ends with PID-START-PLACE-RANDOM. PID is the owner's process id; START is the time at
 * which it started (proc(5), /proc/PID/stat field 22), because ids are reused. PLACE is a hash of
 * the boot id and the pid namespace, the place in which PID and START are valid.
 *
 * The owner of a file from another place (a container that shares the folder, another computer, an
 * earlier boot) cannot be looked up. Such a file is removed when nothing in it has changed for a
 * day and none of its sockets answers.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootId } from './boot-id.node.js';
import { errnoOf, FarbusError, messageOf } from './errors.js';
import { makeFolders } from './folders.node.js';

/** Files from another place are kept for this time after their last change, in ms. */
const foreignMs = 24 * 60 * 60 * 1000;

/** A name that begins with `prefix`, contains the owner, and cannot be guessed. */
export function ownedName(prefix: string): string {
  return `${prefix}${process.pid}-${startOf(process.pid) ?? 0}-${place()}-${randomBytes(4).toString('hex')}`;
}

export interface Owner {
  readonly pid: number;
  /** `elsewhere`: the owner is of another place, so its process id cannot be looked up here. */
  readonly state: 'lives' | 'gone' | 'elsewhere';
}

/**
 * Parses the part of a name that {@link ownedName} puts after the prefix; undefined if it names no
 * owner.
 */
export function ownerOf(owner: string): Owner | undefined {
  const [named, pid, start, where] = /^(\d+)-(\d+)-([0-9a-f]{6})-[0-9a-f]{8}$/.exec(owner) ?? [];
  if (named === undefined) return undefined;
  const lives = startOf(Number(pid)) === Number(start);
  return { pid: Number(pid), state: where !== place() ? 'elsewhere' : lives ? 'lives' : 'gone' };
}

/** The six characters that mkdtemp(3) puts in the place of XXXXXX. */
export const byMkdtemp = /^[A-Za-z0-9]{6}$/;

/**
 * Makes a new folder in `parent` that only this user can enter (mode 0700). First removes the
 * folders with this prefix that killed processes have left; see {@link removeOrphans}.
 * @throws FarbusError if it cannot be made
 */
export async function makeOwnedFolder(parent: string, prefix: string, options: OrphanOptions = {}): Promise<string> {
  try {
    makeFolders(parent);
    await removeOrphans(parent, prefix, options);
    const path = join(parent, ownedName(prefix));
    await mkdir(path, { mode: 0o700 });
    return path;
  } catch (error) {
    const variable = parent === tmpdir() ? 'TMPDIR' : 'XDG_CACHE_HOME';
    const advice = `set ${variable} to a folder that you may write to`;
    throw new FarbusError(`cannot make a folder in ${parent} (${messageOf(error)}): ${advice}`, { cause: error });
  }
}

export interface OrphanOptions {
  /**
   * Matches the end of a name as version 0.1.0 made it, without an owner. Such a file is treated as
   * one from another place.
   */
  readonly before?: RegExp;
}

/**
 * Removes this user's entries of `folder` whose name is `mark` followed by an owner that no longer
 * lives.
 */
export async function removeOrphans(folder: string, mark: string, { before }: OrphanOptions = {}): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const at = name.lastIndexOf(mark);
    if (at < 0) continue;
    const path = join(folder, name);
    // A failure to remove is ignored: the caller can work without the removal.
    if (await isOrphan(path, name.slice(at + mark.length), before)) {
      await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }
  }
}

async function isOrphan(path: string, owner: string, before: RegExp | undefined): Promise<boolean> {
  const named = ownerOf(owner);
  if (!named && !before?.test(owner)) return false;
  const stat = await lstat(path).catch(() => undefined);
  if (!stat || (process.getuid !== undefined && stat.uid !== process.getuid())) return false;
  // rm works by path: in a folder to which others may write they could put a link in its way.
  if (stat.isDirectory() && (stat.mode & 0o022) !== 0) return false;
  if (named && named.state !== 'elsewhere') return named.state === 'gone';
  return !(await inUse(path, stat.mtimeMs));
}

/**
 * True if a file, or an entry of a folder, has changed within `foreignMs`, or if a socket in it
 * answers.
 */
async function inUse(path: string, changed: number): Promise<boolean> {
  const young = (ms: number): boolean => Date.now() - ms < foreignMs;
  if (young(changed)) return true;
  for (const name of await readdir(path).catch(() => [])) {
    const inner = join(path, name);
    const stat = await lstat(inner).catch(() => undefined);
    if (stat && (young(stat.mtimeMs) || (stat.isSocket() && !(await isDead(inner))))) return true;
  }
  return false;
}

/** True if the unix socket at `path` refuses connections: the process that listened has ended. */
export function isDead(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => (socket.destroy(), resolve(false)));
    socket.once('error', (error) => resolve(errnoOf(error) === 'ECONNREFUSED'));
  });
}

/** True if a process has this id. It may have another user. */
export function isRunning(pid: number): boolean {
  return startOf(pid) !== undefined;
}

/**
 * When a process started, in clock ticks since boot; undefined if there is no such process or if it
 * has ended. 0 without /proc.
 */
export function startOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // Count fields from the last ")": field 2, the program's name in brackets, may contain both.
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended, although its parent has not fetched its exit status yet.
    return state === 'Z' || state === 'X' ? undefined : Number(rest[18]);
  } catch (error) {
    if (process.platform === 'linux' && errnoOf(error) === 'ENOENT') return undefined;
  }
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return undefined;
  }
  return 0;
}

let ownPlace: string | undefined;

/** Identifies this boot and pid namespace: six hexadecimal digits. */
function place(): string {
  if (ownPlace === undefined) {
    let namespace = '';
    try {
      namespace = readlinkSync('/proc/self/ns/pid');
    } catch {
      // No /proc.
    }
    ownPlace = createHash('sha256').update(`${bootId()} ${namespace}`).digest('hex').slice(0, 6);
  }
  return ownPlace;
}
