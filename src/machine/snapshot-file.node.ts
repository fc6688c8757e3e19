/**
 * Snapshots in files. A snapshot is written completely or not at all. The format is in snapshot.ts.
 */
import { createHash } from 'node:crypto';
import { constants as modes } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, deflateRaw, inflateRaw } from 'node:zlib';
import { errnoOf } from '../base/errors.js';
import { replaceFile } from '../base/files.node.js';
import {
  decodeSnapshot,
  encodeSnapshot,
  isSnapshot,
  SnapshotError,
  type Snapshot,
  type SnapshotCodec,
} from './snapshot.js';

/** Number of bytes that identify a snapshot file. */
const startSize = 8;

const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);

const codec: SnapshotCodec = {
  compress: (bytes) => deflate(bytes, { level: constants.Z_BEST_SPEED, chunkSize: 1 << 20 }),
  decompress: (bytes) => inflate(bytes, { chunkSize: 4 << 20, maxOutputLength: 2 ** 32 - 1 }),
  digest: (parts) => {
    const sum = createHash('sha256');
    for (const part of parts) sum.update(part);
    return sum.digest();
  },
};

/**
 * Writes a snapshot to `path`. Replaces an older snapshot, but no other file.
 * @throws SnapshotError, or the system's error
 */
export async function writeSnapshot(path: string, snapshot: Snapshot): Promise<void> {
  const parts = await encodeSnapshot(snapshot, codec);
  await checkReplaceable(path);
  await replaceFile(path, parts, { durable: true });
}

/**
 * Reads a snapshot.
 * @throws SnapshotError if it cannot be used, or the system's error if the file cannot be read
 */
export async function readSnapshot(path: string): Promise<Snapshot> {
  const file = await openRegular(path);
  try {
    return await decodeSnapshot(await file.readFile(), codec);
  } finally {
    await file.close();
  }
}

/**
 * Throws a SnapshotError if the file at `path` is not a snapshot: replacing it would destroy a
 * user's data.
 */
async function checkReplaceable(path: string): Promise<void> {
  const file = await openRegular(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  try {
    const found = await file?.read(new Uint8Array(startSize), 0, startSize, 0);
    if (found && !isSnapshot(found.buffer.subarray(0, found.bytesRead))) {
      throw new SnapshotError('there is a file that is not a snapshot: give another path', 'foreign');
    }
  } finally {
    await file?.close();
  }
}

async function openRegular(path: string): Promise<FileHandle> {
  // Without O_NONBLOCK, opening a named pipe waits for a writer.
  const file = await open(path, modes.O_RDONLY | modes.O_NONBLOCK);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new SnapshotError('it is no file', 'foreign');
}
