/**
 * Reads and writes NBD's big-endian integers in byte arrays. Both roles use it.
 *
 * It accesses single bytes instead of using a DataView, which would have to be allocated for each
 * chunk that arrives. It does not check bounds: callers know the lengths.
 */

/** An unsigned 16-bit number at byte `at`. */
export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** An unsigned 32-bit number at byte `at`. */
export function getU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/**
 * An unsigned 64-bit integer at byte `at`. Values above 2^53 are rounded and then not safe
 * integers: callers check the range.
 */
export function getU64(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at) * 0x1_0000_0000 + getU32(bytes, at + 4);
}

/** An unsigned 64-bit integer at byte `at`, exact. Used for magics. */
export function getBigU64(bytes: Uint8Array, at: number): bigint {
  return (BigInt(getU32(bytes, at)) << 32n) | BigInt(getU32(bytes, at + 4));
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes a safe integer >= 0 as 64 bits. */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, Math.floor(value / 0x1_0000_0000));
  putU32(bytes, at + 4, value % 0x1_0000_0000);
}

export function putBigU64(bytes: Uint8Array, at: number, value: bigint): void {
  putU32(bytes, at, Number(value >> 32n));
  putU32(bytes, at + 4, Number(value & 0xffff_ffffn));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Encodes a string as UTF-8. */
export function encodeString(text: string): Uint8Array {
  return encoder.encode(text);
}

/**
 * Encodes like {@link encodeString}, truncated to at most `max` bytes at a character boundary. For
 * explanatory texts only.
 */
export function encodeText(text: string, max: number): Uint8Array {
  const into = new Uint8Array(max);
  const { written } = encoder.encodeInto(text, into);
  return into.subarray(0, written);
}

/** Decodes UTF-8. Undefined if `bytes` is not UTF-8 or contains a NUL ([NBD] "Conventions"). */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
