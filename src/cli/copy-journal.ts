/**
 * The journal of a copy: how far it is known to be durable, and between what, so that it can go on after anything. One
 * small file, replaced as a whole (written beside, made durable, renamed), removed when the copy is complete.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';

/** One end of a copy, as far as it can be recognised. */
export interface CopyEnd {
  readonly size: number;
  /** The device's identity and, but for files, a hash of the words that named it. */
  readonly identity: string;
  /** Of a file: what changes when it is replaced (`to`) or written (`from`). */
  readonly file?: string;
}

export interface CopyJournal {
  readonly version: 1;
  readonly from: CopyEnd;
  readonly to: CopyEnd;
  /** All bytes before it are copied and durable. */
  readonly position: number;
}

const maxJournal = 65536;

/** Where the journal of a copy to `to` is: beside a file, elsewhere in the user's folder for state. */
export async function journalPath(to: string, env: NodeJS.ProcessEnv): Promise<string> {
  const isFile = await fs.stat(to).then(
    (stat) => stat.isFile(),
    () => false,
  );
  if (isFile) return `${resolve(to)}.farbus-copy`;
  const state = env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state');
  return join(state, 'farbus', `copy-${hash(to)}.json`);
}

/** What recognises one end. `role` "from": also that its content was not changed; "to": that it is still the same file. */
export async function copyEnd(text: string, device: BlockDevice, role: 'from' | 'to'): Promise<CopyEnd> {
  const { size, identity } = device.info;
  // What a server says of itself is not enough: another one may have an export of the same name.
  const known = { size, identity: `${identity} ${hash(text)}` };
  const stat = await fs.stat(text).catch(() => undefined);
  if (!stat?.isFile()) return known;
  // A file is itself, by whichever path.
  const file = role === 'from' ? `${stat.ino}:${stat.mtimeMs}` : `${stat.ino}:${stat.birthtimeMs}`;
  return { size, identity, file };
}

/** Reads a journal; undefined where there is none. @throws FarbusError where it cannot be used. */
export async function readJournal(path: string): Promise<CopyJournal | undefined> {
  let text: string;
  try {
    if ((await fs.stat(path)).size > maxJournal) throw new Error('it is too long');
    text = await fs.readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new FarbusError(`cannot read the journal ${path}: ${messageOf(error)}`, { cause: error });
  }
  const damaged = new FarbusError(`${path} is no journal of a copy: delete it and copy from the start`);
  let found: CopyJournal;
  try {
    found = JSON.parse(text) as CopyJournal;
  } catch {
    throw damaged;
  }
  const end = (value: unknown): boolean => {
    const { size, identity } = (value ?? {}) as Partial<CopyEnd>;
    return Number.isSafeInteger(size) && typeof identity === 'string';
  };
  const { version, from, to, position } = found ?? {};
  const whole = version === 1 && end(from) && end(to) && Number.isSafeInteger(position);
  if (!whole || position < 0 || position > from.size) throw damaged;
  return found;
}

/** Why a journal is not of this copy, or undefined where it is. */
export function staleness(journal: CopyJournal, from: CopyEnd, to: CopyEnd): string | undefined {
  const same = (a: CopyEnd, b: CopyEnd): boolean => a.size === b.size && a.identity === b.identity;
  if (!same(journal.from, from)) return 'it was begun from another source';
  if (!same(journal.to, to)) return 'it was begun to another place';
  if (journal.from.file !== from.file) return 'the source has changed since';
  if (journal.to.file !== to.file) return 'the file that it was begun to has been replaced since';
  return undefined;
}

/** Replaces the journal, durably. */
export async function writeJournal(path: string, journal: CopyJournal): Promise<void> {
  await fs.mkdir(dirname(path), { recursive: true });
  const temporary = join(dirname(path), `.${basename(path)}.new`);
  const handle = await fs.open(temporary, 'w', 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(journal)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.rename(temporary, path);
  await syncFolder(path);
}

/** Removes the journal. */
export async function removeJournal(path: string): Promise<void> {
  await fs.rm(path, { force: true });
}

/** Makes the name of a file durable; nothing where the system cannot. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await fs.open(dirname(resolve(path))).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
