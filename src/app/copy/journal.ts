/**
 * The journal of a copy: the position up to which the copy is durable, and the source and target
 * it belongs to. With it a copy can be resumed after any interruption. It is one small file,
 * replaced atomically and durably, and removed when the copy is complete.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { crc32 } from '../../base/crc32.js';
import { errnoOf, FarbusError, messageOf } from '../../base/errors.js';
import { replaceFile } from '../../base/files.node.js';
import { compareSamples } from '../../block/compare.js';
import type { BlockDevice, RequestOptions } from '../../block/device.js';
import { compareIdentity, formatIdentity, parseIdentity, type Verdict } from '../../block/identity.js';
import { identifyDisk } from '../../probe/disk-identity.js';

/** The source or target of a copy, with all that can identify it. */
export interface CopyEnd {
  readonly size: number;
  /** Identity of the disk, in the format of block/identity.ts. */
  readonly identity: string;
  /** Modification time of a source that is a local file, in ms since 1970. */
  readonly changed?: number;
}

export interface CopyJournal {
  readonly version: 2;
  readonly from: CopyEnd;
  readonly to: CopyEnd;
  /** All bytes before this position are copied and durable. */
  readonly position: number;
}

/** Maximum size of a journal, in bytes. */
const maxJournal = 65536;

/**
 * Path of the journal of a copy to `to`: beside a file; for other targets in the user's state
 * folder.
 * @param file The path in the text `to`, if that is a file of this computer.
 * @param options.madeAsFile The copy will make the file. Default false.
 */
export async function journalPath(
  to: string,
  file: string,
  env: NodeJS.ProcessEnv,
  { madeAsFile = false } = {},
): Promise<string> {
  const found = await fs.stat(file).catch(() => undefined);
  const isFile = madeAsFile || found?.isFile();
  if (isFile) return `${resolve(file)}.farbus-copy`;
  const state = env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state');
  return join(state, 'farbus', `copy-${hash(to)}.json`);
}

/**
 * Identifies the source. Its content is part of that: if it changed, the two halves of the copy
 * would not fit together.
 * @param file The source's path, if it is a file of this computer.
 * @throws BlockError if the source as a whole fails
 */
export async function sourceEnd(file: string, device: BlockDevice, options: RequestOptions = {}): Promise<CopyEnd> {
  const { size } = device.info;
  const identity = formatIdentity(await identifyDisk(device, options));
  const stat = await fs.stat(file).catch(() => undefined);
  return { size, identity, ...(stat?.isFile() && { changed: stat.mtimeMs }) };
}

/** Identifies the target. Its content is not part of that, because the copy changes it. */
export function targetEnd({ info: { size, marks = {} } }: BlockDevice): CopyEnd {
  return { size, identity: formatIdentity({ size, marks }) };
}

/**
 * Reads a journal. Returns undefined if it does not exist.
 * @throws FarbusError if it cannot be used
 */
export async function readJournal(path: string): Promise<CopyJournal | undefined> {
  let text: string;
  try {
    const stat = await fs.stat(path);
    // A named pipe would be waited for.
    if (!stat.isFile()) throw new Error('it is no regular file');
    if (stat.size > maxJournal) throw new Error('it is too long');
    text = await fs.readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new FarbusError(`cannot read the journal ${path}: ${messageOf(error)}`, { cause: error });
  }
  const damaged = new FarbusError(`${path} is no journal of a copy: delete it and copy from the start`);
  let found: CopyJournal & { readonly checksum?: number };
  try {
    found = JSON.parse(text) as typeof found;
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
  // A flipped bit in the position would leave a part of the target as it was.
  if (found.checksum !== checksumOf({ version, from, to, position })) throw damaged;
  return found;
}

/** Number of blocks to compare before a copy is resumed. */
const proofs = 32;

/** The devices of a copy to resume. */
export interface CopyEnds {
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  readonly from: CopyEnd;
  readonly to: CopyEnd;
  /** The user asserts that both are the disks that the copy began with. */
  readonly assumeSame: boolean;
  /** How the user writes that option, for messages. */
  readonly names: { readonly assumeSame: string };
  readonly signal?: AbortSignal;
}

/**
 * Why a copy cannot be resumed with this journal; undefined if it can. A target without
 * distinguishing marks is recognised by the data that was copied to it.
 * @throws BlockError if one of the devices cannot be read
 */
export async function staleness(journal: CopyJournal, ends: CopyEnds): Promise<string | undefined> {
  const { from, to, assumeSame, names, signal } = ends;
  const verdictOf = (then: CopyEnd, now: CopyEnd, unchanged: boolean): Verdict =>
    compareIdentity(parseIdentity(then.identity)!, parseIdentity(now.identity)!, { unchanged });
  const [source, target] = [verdictOf(journal.from, from, true), verdictOf(journal.to, to, false)];
  if (journal.from.size !== from.size || (source.verdict !== 'same' && !assumeSame))
    return `the source is ${source.why}`;
  if (journal.from.changed !== from.changed) return 'the source has changed since';
  if (journal.to.size !== to.size || (target.verdict === 'other' && !assumeSame)) return `the target is ${target.why}`;
  const { differs, proof } = await compareSamples(ends.source, ends.target, journal.position, proofs, {
    ...(signal && { signal }),
  });
  if (differs !== undefined) return `the target no longer has what was copied, at byte ${differs}`;
  if (target.verdict === 'same' || proof || assumeSame) return undefined;
  return `the target is ${target.why}: use ${names.assumeSame} if you know that it is the same one`;
}

/** Replaces the journal durably. */
export async function writeJournal(path: string, journal: CopyJournal): Promise<void> {
  const text = JSON.stringify({ ...journal, checksum: checksumOf(journal) });
  await replaceFile(path, [`${text}\n`], { makesFolder: true, durable: true });
}

/** Removes the journal. */
export async function removeJournal(path: string): Promise<void> {
  await fs.rm(path, { force: true });
}

/** CRC-32 of what a journal says. */
function checksumOf({ version, from, to, position }: CopyJournal): number {
  return crc32(new TextEncoder().encode(JSON.stringify([version, from, to, position])));
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
