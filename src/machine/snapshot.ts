/**
 * Snapshots of a computer, as a file: a magic and version, a JSON header (what it is of, the devices' states), then the
 * engine's state, compressed. Made and read here; compression is the host's.
 */

/** Facts of a drive, by which it is known again when the computer goes on. */
export interface SnapshotDrive {
  readonly size: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** What the far device is called; '' where it is not known. */
  readonly identity: string;
  /** What is on it that identifies it; '' where nothing does. It need not be the same: guests write. */
  readonly content: string;
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

/** A snapshot that cannot be used. The message completes "the snapshot cannot be used: ". */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError';
}

/** Compresses and decompresses; `decompress` fails with an Error on anything that `compress` did not make. */
export interface Compression {
  compress(bytes: Uint8Array): Promise<Uint8Array>;
  decompress(bytes: Uint8Array): Promise<Uint8Array>;
}

/** "FARBUSSN" */
const magic = 0x464152425553534en;
const version = 2;
const fixedSize = 16;
const maxHeader = 16 << 20;

/** The file's content. */
export async function encodeSnapshot(snapshot: Snapshot, compression: Compression): Promise<Uint8Array[]> {
  const { key, drives, devices } = snapshot;
  const header = new TextEncoder().encode(JSON.stringify({ key, drives, devices }));
  const fixed = new DataView(new ArrayBuffer(fixedSize));
  fixed.setBigUint64(0, magic);
  fixed.setUint32(8, version);
  fixed.setUint32(12, header.length);
  return [new Uint8Array(fixed.buffer), header, await compression.compress(snapshot.engine)];
}

/** Reads a file's content. @throws SnapshotError where it is not a snapshot, of another version, or damaged. */
export async function decodeSnapshot(file: Uint8Array, compression: Compression): Promise<Snapshot> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < fixedSize || view.getBigUint64(0) !== magic) throw new SnapshotError('it is not a snapshot');
  const found = view.getUint32(8);
  if (found !== version) throw new SnapshotError(`it has version ${found}, and this farbus reads version ${version}`);
  const length = view.getUint32(12);
  if (length > maxHeader || fixedSize + length > file.length) throw new SnapshotError('it is cut off');
  try {
    const header = JSON.parse(new TextDecoder().decode(file.subarray(fixedSize, fixedSize + length))) as Snapshot;
    if (typeof header.key !== 'string' || !Array.isArray(header.drives) || !Array.isArray(header.devices)) {
      throw new SnapshotError('its header is damaged');
    }
    const engine = await compression.decompress(file.subarray(fixedSize + length));
    return { key: header.key, drives: header.drives, devices: header.devices, engine };
  } catch (error) {
    if (error instanceof SnapshotError) throw error;
    throw new SnapshotError('it is damaged');
  }
}
