/**
 * The program headers of a 32-bit little-endian ELF executable (System V ABI, "Program Header"),
 * which tell where its segments are loaded.
 *
 * Left out: 64-bit files, other processors than x86, dynamic linking.
 */

export interface LoadSegment {
  /** The bytes to load. The memory after them, up to `memorySize`, is zero. */
  readonly bytes: Uint8Array;
  /** Guest-physical address. */
  readonly address: number;
  readonly memorySize: number;
}

export interface Executable {
  /** Entry point; for a kernel a physical address. */
  readonly entry: number;
  readonly segments: readonly LoadSegment[];
}

/**
 * Parses an executable.
 * @throws Error that says what is wrong with the file
 */
export function parseElf(file: Uint8Array): Executable {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 52 || view.getUint32(0) !== 0x7f454c46) throw new Error('it is not an ELF file');
  if (file[4] !== 1 || file[5] !== 1 || view.getUint16(18, true) !== 3) throw new Error('it is not for 32-bit x86');
  const offset = view.getUint32(28, true);
  const entrySize = view.getUint16(42, true);
  const count = view.getUint16(44, true);
  if (entrySize < 32 || offset + entrySize * count > file.length) throw new Error('its program headers are cut off');
  const segments: LoadSegment[] = [];
  for (let i = 0; i < count; i++) {
    const at = offset + i * entrySize;
    if (view.getUint32(at, true) !== 1) continue; // PT_LOAD
    const start = view.getUint32(at + 4, true);
    const fileSize = view.getUint32(at + 16, true);
    const memorySize = view.getUint32(at + 20, true);
    if (start + fileSize > file.length || memorySize < fileSize) throw new Error('a segment is cut off');
    segments.push({
      bytes: file.subarray(start, start + fileSize),
      address: view.getUint32(at + 12, true),
      memorySize,
    });
  }
  if (segments.length === 0) throw new Error('it has nothing to load');
  return { entry: view.getUint32(24, true), segments };
}
