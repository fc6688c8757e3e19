/** Copies sparse files: ranges that are all zero are not written and stay holes. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { openForWriting } from '../../base/files.node.js';

/** Bytes to copy at a time; also the size of the smallest hole that is kept. */
const unit = 1 << 20;
const zeroes = Buffer.alloc(unit);

/**
 * Copies `from` to `to`, replacing it durably; without `to` it only computes the hash.
 * @returns SHA-256 of the file's size and of its non-zero blocks with their offsets. Equal
 * contents have equal hashes.
 */
export async function copySparse(
  from: string,
  to?: string,
  onBytes: (done: number, total: number) => void = () => undefined,
): Promise<string> {
  const hash = createHash('sha256');
  const source = await open(from, 'r');
  const target = to === undefined ? undefined : await openForWriting(to, 0o666);
  try {
    const { size } = await source.stat();
    await target?.truncate(size);
    hash.update(`${size}\n`);
    const buffer = Buffer.alloc(unit);
    for (let at = 0; at < size;) {
      const { bytesRead } = await source.read(buffer, 0, Math.min(unit, size - at), at);
      if (bytesRead === 0) break;
      const bytes = buffer.subarray(0, bytesRead);
      if (!bytes.equals(zeroes.subarray(0, bytesRead))) {
        hash.update(`${at}\n`).update(bytes);
        await target?.write(bytes, 0, bytesRead, at);
      }
      at += bytesRead;
      onBytes(at, size);
    }
    await target?.sync();
    return hash.digest('hex');
  } finally {
    await source.close();
    await target?.close();
  }
}
