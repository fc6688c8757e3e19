/** Copies files that are mostly holes: what is all zero is not written, and stays a hole. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

const unit = 1 << 20;
const zeroes = Buffer.alloc(unit);

/**
 * Copies `from` to `to`, which is replaced; without it nothing is written.
 * @returns SHA-256 of the file's size and of what is not zero in it, with its place: the same for equal contents.
 */
export async function copySparse(
  from: string,
  to?: string,
  onBytes: (done: number, total: number) => void = () => undefined,
): Promise<string> {
  const hash = createHash('sha256');
  const source = await open(from, 'r');
  const target = to === undefined ? undefined : await open(to, 'w');
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
    return hash.digest('hex');
  } finally {
    await source.close();
    await target?.close();
  }
}
