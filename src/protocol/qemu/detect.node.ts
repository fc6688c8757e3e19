/** Recognises a disk image by its content. Not here: the marks of each format (formats.ts). */
import { constants, open, stat } from 'node:fs/promises';
import { footerBytes, formatBytes, formatOf, isFixedVhd, type ImageFormat } from './formats.js';

/**
 * The format that the regular file `path` has by its content; undefined if it is unknown or the
 * file cannot be read. Block devices are not examined: a guest controls their content, and reading
 * may have an effect on a drive.
 */
export async function detectFormat(path: string): Promise<ImageFormat | undefined> {
  // Check first: opening a pipe without O_NONBLOCK waits for its writer.
  if (!(await stat(path).catch(() => undefined))?.isFile()) return undefined;
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch(() => undefined);
  if (!handle) return undefined;
  try {
    const bytes = new Uint8Array(formatBytes);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    const found = formatOf(bytes.subarray(0, bytesRead));
    if (found !== undefined) return found;
    const end = await handle.read(
      new Uint8Array(footerBytes),
      0,
      footerBytes,
      (await handle.stat()).size - footerBytes,
    );
    return end.bytesRead === footerBytes && isFixedVhd(end.buffer) ? 'vpc' : undefined;
  } catch {
    // Opening the file as a disk will report the error.
    return undefined;
  } finally {
    await handle.close();
  }
}
