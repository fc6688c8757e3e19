/**
 * The identity of a disk: the facts that identify it after a process, a server or a connection has
 * been replaced. Overlays, kept caches, resumed copies, snapshots, reconnections, leases and
 * exports all use it.
 *
 * A name (a path, an export's name, an address) is not an identity, because another disk can get
 * the same name. Marks identify a disk; each mark has a kind. Two identities are compared by the
 * most trusted kind that both have. Their sizes must be equal in any case. If no common kind
 * decides, the verdict is "unknown" and the caller refuses the disk.
 *
 * Not here: how marks are found. A source gives its own marks in BlockInfo.marks;
 * probe/disk-identity.ts reads those of the content.
 */
import { FarbusError } from '../base/errors.js';

/**
 * The kinds of mark, the most trusted first.
 * - `hardware`: a WWID or serial number. It stays with the disk wherever it is plugged in.
 * - `layer`: a random name that software gave the disk for its lifetime: an overlay's id, a
 *   device-mapper UUID.
 * - `file`: inode number and birth time of a regular file. They survive a rename, and a replacement
 *   has others.
 * - `sequence`: "BOOT:NUMBER": a boot id and Linux's disk sequence number (`/sys/block/X/diskseq`).
 *   Equal marks prove that the disk was never detached. Different marks prove nothing, because the
 *   same disk may have been attached again.
 * - `table`, `filesystem`: the identifier in the partition table; the UUID of the file system or
 *   volume.
 * - `samples`: checksums of some blocks, separated by dots; "-" for a block that could not be read.
 */
export const markKinds = ['hardware', 'layer', 'file', 'sequence', 'table', 'filesystem', 'samples'] as const;
/** The kind of a mark, from the most decisive to the least. */
export type MarkKind = (typeof markKinds)[number];

/** At most one mark of each kind; printable ASCII, at most 200 characters. */
export type DiskMarks = { readonly [kind in MarkKind]?: string | undefined };

/** Longest value of a mark, in characters. */
export const maxMark = 200;

/** Facts by which a disk is recognised after a restart or a replacement. */
export interface DiskIdentity {
  /** Length of the disk in bytes. */
  readonly size: number;
  /** Its marks by kind. */
  readonly marks: DiskMarks;
}

/** Kinds of mark that describe the disk's content rather than the disk itself. */
const contentKinds: readonly MarkKind[] = ['table', 'filesystem', 'samples'];

/**
 * True if a mark exists that always decides: if both identities have it, equal means same,
 * different means other.
 */
export function isDecisive({ hardware, layer, file }: DiskMarks): boolean {
  return (hardware ?? layer ?? file) !== undefined;
}

/**
 * The result of a comparison; `unknown` if no mark decides. `why` is the reason and completes "it
 * is …".
 */
export interface Verdict {
  readonly verdict: 'same' | 'other' | 'unknown';
  readonly why: string;
}

/**
 * Compares the recorded identity of a disk with that of the disk that is there now.
 * @param options `unchanged`: the caller holds data that fits unchanged content only (an overlay, a
 * kept cache, a resumed copy). Then every mark of the content that both have must also be equal,
 * and samples count. Without it the disk may have been written since, so samples are ignored.
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

/** Compares the checksums of samples. A block that could not be read on either side is skipped. */
function sameSamples(then: string, now: string): boolean {
  const before = then.split('.');
  const after = now.split('.');
  return (
    before.length === after.length && before.every((one, i) => one === after[i] || one === '-' || after[i] === '-')
  );
}

/**
 * The marks of a part of a disk: the disk's marks, each with the part's offset and length; marks of
 * content are dropped.
 */
export function marksOfPart(marks: DiskMarks, offset: number, length: number): DiskMarks {
  const own = Object.entries(marks).filter(([kind]) => !contentKinds.includes(kind as MarkKind));
  return Object.fromEntries(own.map(([kind, value]) => [kind, `${value}@${offset}+${length}`]));
}

/**
 * Longest text of an identity, in bytes: the headers of overlays and caches have this much room.
 */
const maxIdentity = 1024;

/**
 * The identity as one line of text: "size=1048576 file=12:34". Marks that would exceed {@link
 * maxIdentity} are left out.
 */
export function formatIdentity({ size, marks }: DiskIdentity): string {
  let text = `size=${size}`;
  for (const kind of markKinds) {
    const part = ` ${kind}=${marks[kind]}`;
    if (marks[kind] !== undefined && text.length + part.length <= maxIdentity) text += part;
  }
  return text;
}

/**
 * Refuses a disk unless it is proved to be the one that `then` describes.
 * @param then the recorded identity, from the text of {@link formatIdentity}
 * @param what the kept data, for the message: "the overlay changes.ov"
 * @param options `unchanged`: see {@link compareIdentity}; `assumeSame`: the user vouches for the
 * disk, so only its size is checked
 * @throws FarbusError if it is refused
 */
export function demandSame(
  then: DiskIdentity,
  now: DiskIdentity,
  what: string,
  { unchanged = false, assumeSame = false } = {},
): void {
  const { verdict, why } = compareIdentity(then, now, { unchanged });
  if (verdict === 'same' || (assumeSame && then.size === now.size)) return;
  const advice = then.size === now.size ? ', or add ,assume-same to the source if you know that it is the same' : '';
  throw new FarbusError(
    `${what} was made for a disk that this one is not known to be (${why}): give that disk${advice}`,
  );
}

/**
 * Parses the text of {@link formatIdentity}, which may come from a file or a peer. Undefined if it
 * is invalid.
 */
export function parseIdentity(text: string): DiskIdentity | undefined {
  const marks: Partial<Record<MarkKind, string>> = {};
  let size: number | undefined;
  for (const part of text.split(' ')) {
    const at = part.indexOf('=');
    const [key, value] = [part.slice(0, at), part.slice(at + 1)];
    if (at < 1 || value.length > maxMark || !/^[!-~]+$/.test(value)) return undefined;
    if (key === 'size') size = /^\d{1,16}$/.test(value) ? Number(value) : undefined;
    else if (isMarkKind(key)) marks[key] = value;
    // Kinds that only a newer version knows are ignored.
  }
  return size !== undefined && Number.isSafeInteger(size) ? { size, marks } : undefined;
}

function isMarkKind(text: string): text is MarkKind {
  return (markKinds as readonly string[]).includes(text);
}

/**
 * A fact as the value of a mark: printable ASCII without spaces, cut if too long. Undefined for an
 * empty fact.
 */
export function markOf(fact: string): string | undefined {
  const value = fact
    .trim()
    .replace(/[^!-~]+/g, '_')
    .slice(0, maxMark - 40);
  return value === '' ? undefined : value;
}

/**
 * True if two devices are known to share bytes of one file or disk, by whatever names or parts they
 * were opened. A copy from one to the other would read what it has written.
 */
export function sharesBytes(a: DiskIdentity, b: DiskIdentity): boolean {
  return (['hardware', 'file'] as const).some((kind) => {
    const [one, other] = [placeOf(a.marks[kind]), placeOf(b.marks[kind])];
    if (!one || !other || one.whole !== other.whole) return false;
    return one.start < other.start + b.size && other.start < one.start + a.size;
  });
}

/** The mark of the whole disk, and the offset of its part in bytes ({@link marksOfPart}). */
function placeOf(mark: string | undefined): { whole: string; start: number } | undefined {
  if (mark === undefined) return undefined;
  const [whole = '', ...parts] = mark.split('@');
  return { whole, start: parts.reduce((sum, part) => sum + Number.parseInt(part, 10), 0) };
}
