/** Snapshots on disk: written whole or not at all. */
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, deflateRaw, inflateRaw } from 'node:zlib';
import { replaceFile } from '../base/files.node.js';
import { decodeSnapshot, encodeSnapshot, type Compression, type Snapshot } from './snapshot.js';

const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);

const compression: Compression = {
  compress: (bytes) => deflate(bytes, { level: constants.Z_BEST_SPEED, chunkSize: 1 << 20 }),
  decompress: (bytes) => inflate(bytes, { chunkSize: 4 << 20, maxOutputLength: 2 ** 32 - 1 }),
};

/** Writes a snapshot to `path`, replacing an older one. */
export async function writeSnapshot(path: string, snapshot: Snapshot): Promise<void> {
  const parts = await encodeSnapshot(snapshot, compression);
  await replaceFile(path, parts, { durable: true });
}

/** Reads a snapshot. @throws SnapshotError, or the system's error where the file cannot be read. */
export async function readSnapshot(path: string): Promise<Snapshot> {
  return decodeSnapshot(await readFile(path), compression);
}
