/**
 * The file format of snapshots of a computer: a fixed part, a JSON header (which computer it is of, the states of the
 * logical devices), then the engine's state, compressed. The fixed part, big-endian:
 *
 *     offset  bytes  field
 *          0      8  magic "FARBUSSN"
 *          8      4  version: 3
 *         12      4  length of the JSON header
 *         16      8  length of the compressed state
 *         24     32  SHA-256 of everything else: bytes 0 to 23, the JSON header and the compressed state
 *
 * The digest finds damage. Without it, one flipped bit decodes to a computer with altered memory and a writable disk. It
 * is no protection against a person who may write the file.
 *
 * Not here: compression, the digest's function and the file (snapshot-file.node.ts); what follows where a snapshot cannot
 * be used (cli/computer.ts).
 */

/** Facts of a drive, by which it is recognised when the computer goes on. */
export interface SnapshotDrive {
  readonly size: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Which disk it was, as text (block/identity.ts, formatIdentity). */
  readonly disk: string;
  /** Who the guest has been told that it is, and is told again. */
  readonly shown: { readonly serial: string; readonly model: string; readonly uuid: string };
}

export interface Snapshot {
  /** What it is of: kernel, initramfs, command line, memory, engine version. */
  readonly key: string;
  readonly drives: readonly SnapshotDrive[];
  /** States of the logical devices, in order: plain data. */
  readonly devices: readonly unknown[];
  /** The engine's state. */
  readonly engine: Uint8Array;
}

/**
 * Why a snapshot cannot be used.
 * - `foreign`: the file is no snapshot: it belongs to somebody else.
 * - `damaged`: a snapshot that is empty, cut off, altered or of another version of the format. It says nothing any more,
 *   so it may be replaced.
 * - `other`: a snapshot of another computer or of other drives, or one that cannot be taken or used at the moment.
 */
export type SnapshotFault = 'foreign' | 'damaged' | 'other';

/** A snapshot that cannot be used. The message completes "the snapshot cannot be used: ". */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError';
  readonly fault: SnapshotFault;

  constructor(message: string, fault: SnapshotFault = 'other') {
    super(message);
    this.fault = fault;
  }
}

/** What the host does for this format. */
export interface SnapshotCodec {
  compress(bytes: Uint8Array): Promise<Uint8Array>;
  /** Fails with an Error on anything that `compress` did not make. */
  decompress(bytes: Uint8Array): Promise<Uint8Array>;
  /** SHA-256 of the parts, one after the other. */
  digest(parts: readonly Uint8Array[]): Uint8Array;
}

const magic = new TextEncoder().encode('FARBUSSN');
const version = 3;
/** Offset and length of the digest, and where the JSON header begins. */
const digestAt = 24;
const digestSize = 32;
const fixedSize = digestAt + digestSize;
const maxHeader = 16 << 20;

/** Whether a file that begins so is a snapshot, of whatever version, or the beginning of one. */
export function isSnapshot(start: Uint8Array): boolean {
  return start.subarray(0, magic.length).every((byte, i) => byte === magic[i]);
}

/** The file's content. */
export async function encodeSnapshot(snapshot: Snapshot, codec: SnapshotCodec): Promise<Uint8Array[]> {
  const { key, drives, devices } = snapshot;
  const header = new TextEncoder().encode(JSON.stringify({ key, drives, devices }));
  const state = await codec.compress(snapshot.engine);
  const fixed = new Uint8Array(fixedSize);
  const view = new DataView(fixed.buffer);
  fixed.set(magic);
  view.setUint32(8, version);
  view.setUint32(12, header.length);
  view.setBigUint64(16, BigInt(state.length));
  fixed.set(codec.digest([fixed.subarray(0, digestAt), header, state]), digestAt);
  return [fixed, header, state];
}

/** Reads a file's content. @throws SnapshotError if it is not a snapshot, of another version, or damaged */
export async function decodeSnapshot(file: Uint8Array, codec: SnapshotCodec): Promise<Snapshot> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length === 0) throw new SnapshotError('it is empty', 'damaged');
  if (!isSnapshot(file)) throw new SnapshotError('it is not a snapshot', 'foreign');
  if (file.length < magic.length + 4) throw new SnapshotError('it is cut off', 'damaged');
  const found = view.getUint32(8);
  if (found !== version) {
    throw new SnapshotError(`it has version ${found}, and this farbus reads version ${version}`, 'damaged');
  }
  if (file.length < fixedSize) throw new SnapshotError('it is cut off', 'damaged');
  const stateAt = fixedSize + view.getUint32(12);
  const end = BigInt(stateAt) + view.getBigUint64(16);
  if (BigInt(file.length) < end) throw new SnapshotError('it is cut off', 'damaged');
  const [header, state] = [file.subarray(fixedSize, stateAt), file.subarray(stateAt)];
  const digest = codec.digest([file.subarray(0, digestAt), header, state]);
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
  const { size, blockSize, readOnly, disk, shown } = (value ?? {}) as Partial<SnapshotDrive>;
  const numbers = Number.isSafeInteger(size) && Number.isSafeInteger(blockSize);
  const names = [disk, shown?.serial, shown?.model, shown?.uuid].every((name) => typeof name === 'string');
  return numbers && typeof readOnly === 'boolean' && names;
}

async function decodeState(bytes: Uint8Array, codec: SnapshotCodec): Promise<Uint8Array> {
  try {
    return await codec.decompress(bytes);
  } catch {
    throw new SnapshotError('it is damaged', 'damaged');
  }
}
