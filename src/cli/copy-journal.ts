/**
 * The journal of a copy: how far it is known to be durable, and between what, so that it can go on after anything. One
 * small file, replaced as a whole (written beside, made durable, renamed), removed when the copy is complete.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { replaceFile } from '../base/files.node.js';
import { compareSamples } from '../block/compare.js';
import type { BlockDevice } from '../block/device.js';
import { compareIdentity, formatIdentity, parseIdentity, type Verdict } from '../block/identity.js';
import { identifyDisk } from '../probe/disk-identity.js';

/** One end of a copy, as far as it can be recognised. */
export interface CopyEnd {
  readonly size: number;
  /** Which disk it is, as block/identity.ts writes it. */
  readonly identity: string;
  /** Time of the last change of a source that is a file of this computer, in ms since 1970. */
  readonly changed?: number;
}

export interface CopyJournal {
  readonly version: 2;
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

/**
 * What recognises the source: a change of its content makes a copy of two halves that do not fit.
 * @throws BlockError if the source as a whole fails
 */
export async function sourceEnd(text: string, device: BlockDevice): Promise<CopyEnd> {
  const { size } = device.info;
  const identity = formatIdentity(await identifyDisk(device));
  const stat = await fs.stat(text).catch(() => undefined);
  return { size, identity, ...(stat?.isFile() && { changed: stat.mtimeMs }) };
}

/** What recognises the target, whose content changes with the copy. */
export function targetEnd({ info: { size, marks = {} } }: BlockDevice): CopyEnd {
  return { size, identity: formatIdentity({ size, marks }) };
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
    return Number.isSafeInteger(size) && typeof identity === 'string' && parseIdentity(identity) !== undefined;
  };
  const { version, from, to, position } = found ?? {};
  const whole = version === 2 && end(from) && end(to) && Number.isSafeInteger(position);
  if (!whole || position < 0 || position > from.size) throw damaged;
  return found;
}

/** Blocks that are compared before a copy is gone on with. */
const proofs = 32;

/** Both devices of a copy, as they are now, and what the user says of them. */
export interface CopyEnds {
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  readonly from: CopyEnd;
  readonly to: CopyEnd;
  /** The user's word that both are the disks with which the copy was begun. */
  readonly assumeSame: boolean;
}

/**
 * Why a copy cannot go on by this journal; undefined if it can. A target that no mark tells from another one is recognised
 * by what was copied to it.
 * @throws BlockError if one of the devices cannot be read
 */
export async function staleness(journal: CopyJournal, ends: CopyEnds): Promise<string | undefined> {
  const { from, to, assumeSame } = ends;
  const verdictOf = (then: CopyEnd, now: CopyEnd, unchanged: boolean): Verdict =>
    compareIdentity(parseIdentity(then.identity)!, parseIdentity(now.identity)!, { unchanged });
  const [source, target] = [verdictOf(journal.from, from, true), verdictOf(journal.to, to, false)];
  if (journal.from.size !== from.size || (source.verdict !== 'same' && !assumeSame))
    return `the source is ${source.why}`;
  if (journal.from.changed !== from.changed) return 'the source has changed since';
  if (journal.to.size !== to.size || (target.verdict === 'other' && !assumeSame)) return `the target is ${target.why}`;
  const { differs, proof } = await compareSamples(ends.source, ends.target, journal.position, proofs);
  if (differs !== undefined) return `the target no longer has what was copied, at byte ${differs}`;
  if (target.verdict === 'same' || proof || assumeSame) return undefined;
  return `the target is ${target.why}: use --assume-same if you know that it is the same one`;
}

/** Replaces the journal, durably. */
export async function writeJournal(path: string, journal: CopyJournal): Promise<void> {
  await replaceFile(path, [`${JSON.stringify(journal)}\n`], { durable: true });
}

/** Removes the journal. */
export async function removeJournal(path: string): Promise<void> {
  await fs.rm(path, { force: true });
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
