/**
 * Reading and writing NBD's numbers in place: big-endian, in byte arrays. Plain byte access rather than a DataView, so
 * that nothing is allocated for each chunk that arrives. Used by both roles. Checks no bounds: callers know their lengths.
 */

/** An unsigned 16-bit number at byte `at`. */
export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** An unsigned 32-bit number at byte `at`. */
export function getU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** An unsigned 64-bit number at byte `at`. Above 2^53 it is rounded, and so no safe integer: callers check its range. */
export function getU64(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at) * 0x1_0000_0000 + getU32(bytes, at + 4);
}

/** An unsigned 64-bit number at byte `at`, exactly: for magics. */
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

/** Writes a safe integer of 0 or more as 64 bits. */
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

/** The bytes of a string, UTF-8. */
export function encodeString(text: string): Uint8Array {
  return encoder.encode(text);
}

/** As {@link encodeString}, cut to at most `max` bytes at a character's border: for texts that only explain. */
export function encodeText(text: string, max: number): Uint8Array {
  const into = new Uint8Array(max);
  const { written } = encoder.encodeInto(text, into);
  return into.subarray(0, written);
}

/** The string in `bytes`, or undefined if they are not UTF-8 or contain a NUL ([NBD] Conventions). */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
