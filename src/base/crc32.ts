/** CRC-32 (IEEE 802.3, reflected, polynomial 0x04C11DB7), which GPT and many file formats use. */

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  return crc >>> 0;
});

/** The CRC-32 of `bytes`, 0 to 2^32 - 1. */
export function crc32(bytes: Uint8Array): number {
  return (crc32Raw(0xffffffff, bytes) ^ 0xffffffff) >>> 0;
}

/** CRC-32 that starts from `seed` and omits the final inversion, like Linux's crc32_le. */
export function crc32Raw(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return crc >>> 0;
}
