/** Snapshots on disk: written whole or not at all. */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, deflateRaw, inflateRaw } from 'node:zlib';
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
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'w', 0o600);
  try {
    for (const part of parts) await file.writeFile(part);
    await file.close();
    await rename(temporary, path);
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Reads a snapshot. @throws SnapshotError, or the system's error where the file cannot be read. */
export async function readSnapshot(path: string): Promise<Snapshot> {
  return decodeSnapshot(await readFile(path), compression);
}
