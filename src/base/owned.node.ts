/**
 * Names of temporary files and folders that tell which process they belong to, so that what a killed process has left is
 * removed by the next one, and nothing of one that lives.
 *
 * A name ends with PID-START-PLACE-RANDOM: the process, when it started (proc(5), /proc/PID/stat field 22), and where that
 * pair means something: a hash of this boot and of the pid namespace. Of another place (a container that shares the folder,
 * another computer, an earlier boot) the owner cannot be looked for: what is from there goes when nothing in it has changed
 * for a day and none of its sockets answers.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { errnoOf } from './errors.js';

/** How long what is of another place is left alone after its last change, in ms. */
const foreignMs = 24 * 60 * 60 * 1000;

/** `prefix` and the rest of a name that no other process uses and nobody can guess. */
export function ownedName(prefix: string): string {
  return `${prefix}${process.pid}-${startOf(process.pid) ?? 0}-${place()}-${randomBytes(4).toString('hex')}`;
}

/** What mkdtemp(3) puts in the place of XXXXXX. */
export const byMkdtemp = /^[A-Za-z0-9]{6}$/;

/** Makes a new folder in `parent` that is its owner's only, as those with that prefix are; see {@link removeOrphans}. */
export async function makeOwnedFolder(parent: string, prefix: string, options: OrphanOptions = {}): Promise<string> {
  await mkdir(parent, { recursive: true });
  await removeOrphans(parent, prefix, options);
  const path = join(parent, ownedName(prefix));
  await mkdir(path, { mode: 0o700 });
  return path;
}

export interface OrphanOptions {
  /** How version 0.1.0 went on where an owner stands now: such names are taken for those of another place. */
  readonly before?: RegExp;
}

/** Removes what is in `folder`, has a name of `mark` and an owner, belongs to this user, and has no living owner. */
export async function removeOrphans(folder: string, mark: string, { before }: OrphanOptions = {}): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const at = name.lastIndexOf(mark);
    if (at < 0) continue;
    const path = join(folder, name);
    // What cannot be removed is no reason to fail.
    if (await isOrphan(path, name.slice(at + mark.length), before)) {
      await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }
  }
}

async function isOrphan(path: string, owner: string, before: RegExp | undefined): Promise<boolean> {
  const [named, pid, start, where] = /^(\d+)-(\d+)-([0-9a-f]{6})-[0-9a-f]{8}$/.exec(owner) ?? [];
  if (named === undefined && !before?.test(owner)) return false;
  const stat = await lstat(path).catch(() => undefined);
  if (!stat || (process.getuid !== undefined && stat.uid !== process.getuid())) return false;
  // Removing follows paths, which others could exchange in a folder to which they may write.
  if (stat.isDirectory() && (stat.mode & 0o022) !== 0) return false;
  if (where === place()) return startOf(Number(pid)) !== Number(start);
  return !(await inUse(path, stat.mtimeMs));
}

/** Whether something in a file or folder has changed lately, or a socket in it answers. */
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

/** Whether a unix socket's file is left of a process that has ended: a connection is refused. */
export function isDead(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => (socket.destroy(), resolve(false)));
    socket.once('error', (error) => resolve(errnoOf(error) === 'ECONNREFUSED'));
  });
}

/** When a process started, in clock ticks since boot; undefined where there is none. 0 on systems without /proc. */
function startOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field, the program's name in brackets, may have spaces and brackets in it.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
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

function place(): string {
  if (ownPlace === undefined) {
    const parts = [
      () => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim(),
      () => readlinkSync('/proc/self/ns/pid'),
    ].map((part) => {
      try {
        return part();
      } catch {
        return '';
      }
    });
    ownPlace = createHash('sha256').update(parts.join(' ')).digest('hex').slice(0, 6);
  }
  return ownPlace;
}
