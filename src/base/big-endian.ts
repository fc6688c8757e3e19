/**
 * Unsigned numbers in network byte order (big-endian) in byte arrays.
 *
 * Plain byte access instead of a DataView, so that nothing is allocated for each frame or chunk
 * that arrives. Bounds are not checked: callers know their lengths.
 */

/** Reads the unsigned 16-bit number at byte `at`. */
export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** Reads the unsigned 32-bit number at byte `at`. */
export function getU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Writes the low 16 bits of `value` at byte `at`. */
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes the low 32 bits of `value` at byte `at`. */
export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/**
 * Reads the unsigned 64-bit number at byte `at`. Values above 2^53 are rounded and then not safe
 * integers: callers check the range.
 */
export function getU64(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at) * 0x1_0000_0000 + getU32(bytes, at + 4);
}

/** Reads the unsigned 64-bit number at byte `at`, exactly. */
export function getBigU64(bytes: Uint8Array, at: number): bigint {
  return (BigInt(getU32(bytes, at)) << 32n) | BigInt(getU32(bytes, at + 4));
}

/** Writes a safe integer >= 0 as 64 bits at byte `at`. */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, Math.floor(value / 0x1_0000_0000));
  putU32(bytes, at + 4, value % 0x1_0000_0000);
}

export function putBigU64(bytes: Uint8Array, at: number, value: bigint): void {
  putU32(bytes, at, Number(value >> 32n));
  putU32(bytes, at + 4, Number(value & 0xffff_ffffn));
}
