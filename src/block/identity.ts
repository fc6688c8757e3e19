/**
 * The identity of a disk: the facts by which a disk is recognised after a process, a server or a connection has been
 * replaced. Overlays, kept caches, resumed copies, snapshots, reconnections, leases and exports all use this one notion.
 *
 * A name (a path, an export's name, an address) is no identity: another disk can be moved to it. What identifies a disk
 * are marks, each of one kind. Two identities are compared by the most trusted kind that both have; the sizes must be
 * equal in any case. Where no common kind decides, the verdict is "unknown", and the caller refuses.
 *
 * Not here: how the marks are found. A source tells its own in BlockInfo.marks; the marks of the content are read by
 * probe/disk-identity.ts.
 */
import { FarbusError } from '../base/errors.js';

/**
 * The kinds of mark, the most trusted first.
 * - `hardware`: the disk's own name: a WWID or serial number. It stays with the disk wherever it is plugged in.
 * - `layer`: a random name that software gave the disk for life: an overlay's id, a device-mapper UUID.
 * - `file`: inode number and time of birth of a regular file. They survive a rename and differ for a replacement.
 * - `sequence`: "BOOT:NUMBER", Linux's disk sequence number (`/sys/block/X/diskseq`) within one boot. Equal ones prove that
 *   the disk was never detached; different ones prove nothing, since the same disk may have been attached again.
 * - `table`, `filesystem`: the identifier in the partition table; the UUID of the file system or volume.
 * - `samples`: checksums of some blocks, separated by dots; "-" for one that could not be read.
 */
export const markKinds = ['hardware', 'layer', 'file', 'sequence', 'table', 'filesystem', 'samples'] as const;
export type MarkKind = (typeof markKinds)[number];

/** At most one mark of each kind; printable ASCII, at most {@link maxMark} characters. */
export type DiskMarks = { readonly [kind in MarkKind]?: string | undefined };

/** Longest value of a mark, in characters. */
export const maxMark = 200;

export interface DiskIdentity {
  /** In bytes. */
  readonly size: number;
  readonly marks: DiskMarks;
}

/** The marks that tell what is on the disk rather than which disk it is. */
const contentKinds: readonly MarkKind[] = ['table', 'filesystem', 'samples'];

/** Whether marks of this kind decide in any case: where both sides have one, it is equal or another disk. */
export function isDecisive({ hardware, layer, file }: DiskMarks): boolean {
  return (hardware ?? layer ?? file) !== undefined;
}

/** `same` or `other`, by the mark that decided; `unknown` if no mark decides. `why` completes "it is …". */
export interface Verdict {
  readonly verdict: 'same' | 'other' | 'unknown';
  readonly why: string;
}

/**
 * Compares what was known of a disk with what is known of the one that is there now.
 *
 * `unchanged`: the caller holds data that only fits unchanged content (an overlay, a kept cache, a resumed copy). Every
 * mark of the content that both know must then be equal too, and samples count. Without it, the disk may have been
 * written since, so samples say nothing.
 */
export function compareIdentity(then: DiskIdentity, now: DiskIdentity, { unchanged = false } = {}): Verdict {
  if (then.size !== now.size) return other(`another disk: it has ${now.size} bytes and had ${then.size}`);
  let decided: MarkKind | undefined;
  for (const kind of markKinds) {
    const [before, after] = [then.marks[kind], now.marks[kind]];
    if (before === undefined || after === undefined || (kind === 'samples' && !unchanged)) continue;
    const equal = kind === 'samples' ? sameSamples(before, after) : before === after;
    if (equal) decided ??= kind;
    else if (kind === 'sequence') continue;
    else if (decided === undefined) return other(`another disk: ${differences[kind]}`);
    else if (unchanged && contentKinds.includes(kind))
      return other(`a disk that has been written: ${differences[kind]}`);
  }
  if (decided === undefined) {
    const why = 'not known to be the same disk: it has no serial number, identifier or UUID that would tell';
    return { verdict: 'unknown', why };
  }
  return { verdict: 'same', why: `the same disk by its ${decided}` };
}

function other(why: string): Verdict {
  return { verdict: 'other', why };
}

const differences: Readonly<Record<MarkKind, string>> = {
  hardware: 'its serial number differs',
  layer: 'its own identifier differs',
  file: 'its file was replaced',
  sequence: 'it was attached again',
  table: "its partition table's identifier differs",
  filesystem: "its file system's UUID differs",
  samples: 'samples of its content differ',
};

/** A block that could not be read on one of both sides says nothing. */
function sameSamples(then: string, now: string): boolean {
  const before = then.split('.');
  const after = now.split('.');
  return (
    before.length === after.length && before.every((one, i) => one === after[i] || one === '-' || after[i] === '-')
  );
}

/** The marks of a part of a disk: the whole's marks, each with the part's place. The content's own do not carry over. */
export function marksOfPart(marks: DiskMarks, offset: number, length: number): DiskMarks {
  const own = Object.entries(marks).filter(([kind]) => !contentKinds.includes(kind as MarkKind));
  return Object.fromEntries(own.map(([kind, value]) => [kind, `${value}@${offset}+${length}`]));
}

/** Longest text of an identity, in bytes: what the headers of overlays and caches hold. */
export const maxIdentity = 1024;

/** One line of text: "size=1048576 file=12:34". The least trusted marks are left out if it would be too long. */
export function formatIdentity({ size, marks }: DiskIdentity): string {
  let text = `size=${size}`;
  for (const kind of markKinds) {
    const part = ` ${kind}=${marks[kind]}`;
    if (marks[kind] !== undefined && text.length + part.length <= maxIdentity) text += part;
  }
  return text;
}

/**
 * Refuses a disk that is not known to be the one that `then` describes.
 * @param then What was written down, by {@link formatIdentity}.
 * @param what What was kept, for the message: "the overlay changes.ov".
 * @throws FarbusError
 */
export function demandSame(
  then: DiskIdentity,
  now: DiskIdentity,
  what: string,
  { unchanged = false, assumeSame = false } = {},
): void {
  const { verdict, why } = compareIdentity(then, now, { unchanged });
  if (verdict === 'same' || (assumeSame && then.size === now.size)) return;
  const advice = then.size === now.size ? ', or --assume-same if you know that it is the same disk' : '';
  throw new FarbusError(`${what} belongs to another disk: this is ${why}: give that disk${advice}`);
}

/** Reads {@link formatIdentity}'s text, which may come from a file or a peer. Undefined if it is not one. */
export function parseIdentity(text: string): DiskIdentity | undefined {
  const marks: Partial<Record<MarkKind, string>> = {};
  let size: number | undefined;
  for (const part of text.split(' ')) {
    const at = part.indexOf('=');
    const [key, value] = [part.slice(0, at), part.slice(at + 1)];
    if (at < 1 || value.length > maxMark || !/^[!-~]+$/.test(value)) return undefined;
    if (key === 'size') size = /^\d{1,16}$/.test(value) ? Number(value) : undefined;
    else if (isMarkKind(key)) marks[key] = value;
    // A newer version may know more kinds; these are left out.
  }
  return size !== undefined && Number.isSafeInteger(size) ? { size, marks } : undefined;
}

function isMarkKind(text: string): text is MarkKind {
  return (markKinds as readonly string[]).includes(text);
}

/** A fact as a mark's value: printable, without spaces, bounded. Undefined for an empty one. */
export function markOf(fact: string): string | undefined {
  const value = fact
    .trim()
    .replace(/[^!-~]+/g, '_')
    .slice(0, maxMark - 40);
  return value === '' ? undefined : value;
}
