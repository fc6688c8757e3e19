/**
 * Encodes a guest's screen as PNG (Portable Network Graphics, ISO/IEC 15948): 8 bits a sample,
 * truecolour, not interlaced.
 */
import { deflateSync } from 'node:zlib';
import { crc32 } from '../../base/crc32.js';
import type { PixelPicture } from '../../machine/screen.js';

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

/** True if a file that starts with these bytes is a PNG. */
export function isPng(start: Uint8Array): boolean {
  return signature.every((byte, index) => byte === start[index]);
}

/** Encodes a picture as a PNG file. */
export function encodePng({ width, height, rgb }: PixelPicture): Uint8Array {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8);
  // Each line begins with its filter type: 0, none.
  const lines = new Uint8Array(height * (1 + 3 * width));
  for (let y = 0; y < height; y++) {
    lines.set(rgb.subarray(3 * width * y, 3 * width * (y + 1)), y * (1 + 3 * width) + 1);
  }
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(lines)),
    chunk('IEND', new Uint8Array(0)),
  ]);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}
