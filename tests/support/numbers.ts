/** Numbers as new arrays of bytes in network byte order. */
import { putBigU64, putU16, putU32 } from '../../src/base/big-endian.js';

export function u16(value: number): Uint8Array {
  const bytes = new Uint8Array(2);
  putU16(bytes, 0, value);
  return bytes;
}

export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  putU32(bytes, 0, value);
  return bytes;
}

export function u64(value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  putBigU64(bytes, 0, BigInt(value));
  return bytes;
}
