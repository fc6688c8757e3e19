/**
 * The file format of snapshots of a computer: a fixed part, a JSON header (identity of the
 * computer, states of the logical devices), then the engine's state, compressed. The fixed part,
 * big-endian:
 *
 *     offset  bytes  field
 *          0      8  magic "FARBUSSN"
 *          8      4  version: 4
 *         12      4  length of the JSON header
 *         16      8  length of the compressed state
 *         24     32  SHA-256 of everything else: bytes 0 to 23, header and compressed state
 *
 * The digest detects damage. Without it, one flipped bit would give a computer with altered memory
 * and a writable disk. It does not protect against a person who may write the file.
 *
 * Not here: compression, the digest function and the file (snapshot-file.node.ts); the reaction to
 * a snapshot that cannot be used (app/computer/start.ts).
 */

/** A witness of a disk's content when the computer was saved (computer/unchanged.ts). */
export interface SavedContent {
  /** Places of the disk in bytes, and the CRC-32 of the content of each. */
  readonly places: readonly (readonly [offset: number, length: number, sum: number])[];
  /** Where the guest's last writes ended, as offsets in bytes. */
  readonly recent: readonly number[];
}

/** Facts of a drive, by which it is recognised when the computer resumes. */
export interface SnapshotDrive {
  /** Size in bytes. */
  readonly size: number;
  /** Size of its blocks in bytes. */
  readonly blockSize: number;
  /** True if it cannot be written. */
  readonly readOnly: boolean;
  /** The identity of its disk, as text (block/identity.ts, formatIdentity). */
  readonly disk: string;
  /**
   * The names under which the drive was presented to the guest. They stay the same when it resumes.
   */
  readonly shown: { readonly serial: string; readonly model: string; readonly uuid: string };
  /**
   * The content, which must be the same when the computer resumes. Absent if the drive was empty,
   * or if the guest had not used it yet: then the disk may have been written since.
   */
  readonly content?: SavedContent | undefined;
}

/** The state of a computer, from which it continues. */
export interface Snapshot {
  /** Identifies the computer: kernel, initramfs, command line, memory size, engine version. */
  readonly key: string;
  /** The drives that it was taken with. */
  readonly drives: readonly SnapshotDrive[];
  /** States of the logical devices, in order, as plain data. */
  readonly devices: readonly unknown[];
  /** The engine's state. */
  readonly engine: Uint8Array;
}

/**
 * The reason why a snapshot cannot be used.
 * - `foreign`: the file is not a snapshot and must not be replaced.
 * - `damaged`: a snapshot that is empty, truncated, altered or of another format version. It is
 *   useless, so it may be replaced.
 * - `written`: a drive was written since the snapshot was taken, so that its guest would damage it.
 * - `other`: a snapshot of another computer or of other drives, or one that cannot be made or used
 *   at the moment.
 */
export type SnapshotFault = 'foreign' | 'damaged' | 'written' | 'other';

/** A snapshot that cannot be used. The message completes "the snapshot cannot be used: ". */
export class SnapshotError extends Error {
  /** The name of the class. */
  override readonly name = 'SnapshotError';
  /** Why the snapshot cannot be used. */
  readonly fault: SnapshotFault;

  constructor(message: string, fault: SnapshotFault = 'other') {
    super(message);
    this.fault = fault;
  }
}

/** Functions of the host that the format needs. */
export interface SnapshotCodec {
  /** Compresses bytes. */
  compress(bytes: Uint8Array): Promise<Uint8Array>;
  /** Decompresses. Fails with an Error if `compress` did not make the input. */
  decompress(bytes: Uint8Array): Promise<Uint8Array>;
  /** SHA-256 of the concatenated parts. */
  digest(parts: readonly Uint8Array[]): Uint8Array | Promise<Uint8Array>;
}

const magic = new TextEncoder().encode('FARBUSSN');
/** Version of the file's format. */
export const snapshotVersion = 4;
/** Offset and length of the digest, and the offset of the JSON header. */
const digestAt = 24;
const digestSize = 32;
const fixedSize = digestAt + digestSize;
const maxHeader = 16 << 20;
/** Most places of a disk whose content is compared, and most bytes in all of them. */
const maxPlaces = 512;
const maxWitness = 64 << 20;

/** True if a file with these first bytes is a snapshot of any version, or a truncated one. */
export function isSnapshot(start: Uint8Array): boolean {
  return start.subarray(0, magic.length).every((byte, i) => byte === magic[i]);
}

/** Encodes a snapshot as the content of a file. */
export async function encodeSnapshot(snapshot: Snapshot, codec: SnapshotCodec): Promise<Uint8Array[]> {
  const { key, drives, devices } = snapshot;
  const header = new TextEncoder().encode(JSON.stringify({ key, drives, devices }));
  const state = await codec.compress(snapshot.engine);
  const fixed = new Uint8Array(fixedSize);
  const view = new DataView(fixed.buffer);
  fixed.set(magic);
  view.setUint32(8, snapshotVersion);
  view.setUint32(12, header.length);
  view.setBigUint64(16, BigInt(state.length));
  fixed.set(await codec.digest([fixed.subarray(0, digestAt), header, state]), digestAt);
  return [fixed, header, state];
}

/**
 * Decodes the content of a file.
 * @throws SnapshotError if it is not a snapshot, of another version, or damaged
 */
export async function decodeSnapshot(file: Uint8Array, codec: SnapshotCodec): Promise<Snapshot> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length === 0) throw new SnapshotError('it is empty', 'damaged');
  if (!isSnapshot(file)) throw new SnapshotError('it is not a snapshot', 'foreign');
  if (file.length < magic.length + 4) throw new SnapshotError('it is cut off', 'damaged');
  const found = view.getUint32(8);
  if (found !== snapshotVersion) {
    throw new SnapshotError(`it has version ${found}, and this farbus reads version ${snapshotVersion}`, 'damaged');
  }
  if (file.length < fixedSize) throw new SnapshotError('it is cut off', 'damaged');
  const stateAt = fixedSize + view.getUint32(12);
  const end = BigInt(stateAt) + view.getBigUint64(16);
  if (BigInt(file.length) < end) throw new SnapshotError('it is cut off', 'damaged');
  const [header, state] = [file.subarray(fixedSize, stateAt), file.subarray(stateAt)];
  const digest = await codec.digest([file.subarray(0, digestAt), header, state]);
  const intact = digest.every((byte, i) => byte === file[digestAt + i]);
  if (!intact || BigInt(file.length) !== end || header.length > maxHeader) {
    throw new SnapshotError('it is damaged', 'damaged');
  }
  return { ...decodeHeader(header), engine: await decodeState(state, codec) };
}

function decodeHeader(bytes: Uint8Array): Omit<Snapshot, 'engine'> {
  const damaged = new SnapshotError('its header is damaged', 'damaged');
  let header: Partial<Snapshot> | null;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Snapshot> | null;
  } catch {
    throw damaged;
  }
  const { key, drives, devices } = header ?? {};
  if (typeof key !== 'string' || !Array.isArray(drives) || !Array.isArray(devices)) throw damaged;
  if (!drives.every(isDrive)) throw damaged;
  return { key, drives, devices };
}

function isDrive(value: unknown): value is SnapshotDrive {
  const { size, blockSize, readOnly, disk, shown, content } = (value ?? {}) as Partial<SnapshotDrive>;
  const numbers = Number.isSafeInteger(size) && Number.isSafeInteger(blockSize);
  const names = [disk, shown?.serial, shown?.model, shown?.uuid].every((name) => typeof name === 'string');
  const right = numbers && typeof readOnly === 'boolean' && names;
  return right && (content === undefined || isContent(content, size!));
}

/** True if the content can be that of a disk of `size` bytes, and costs little to compare. */
function isContent(value: unknown, size: number): value is SavedContent {
  const { places, recent } = (value ?? {}) as Partial<SavedContent>;
  if (!Array.isArray(places) || !Array.isArray(recent)) return false;
  if (places.length > maxPlaces || recent.length > maxPlaces) return false;
  const within = (offset: unknown): offset is number => {
    return Number.isSafeInteger(offset) && (offset as number) >= 0 && (offset as number) <= size;
  };
  let total = 0;
  for (const place of places as unknown[]) {
    const [offset, length, sum] = (Array.isArray(place) ? place : []) as unknown[];
    if (!within(offset) || !within(length) || !within(offset + length) || !Number.isSafeInteger(sum)) return false;
    total += length;
  }
  return total <= maxWitness && recent.every(within);
}

async function decodeState(bytes: Uint8Array, codec: SnapshotCodec): Promise<Uint8Array> {
  try {
    return await codec.decompress(bytes);
  } catch {
    throw new SnapshotError('it is damaged', 'damaged');
  }
}
