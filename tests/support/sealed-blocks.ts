/** Blocks that tell whose they are and how old, so that after a crash one sees of each what it is. */
import { crc32 } from '../../src/base/crc32.js';

export const sealedSize = 4096;

/** Block number `block` of a generation; generation 0 is all zeroes: never written. */
export function sealed(block: number, generation: number): Uint8Array {
  const bytes = new Uint8Array(sealedSize);
  if (generation === 0) return bytes;
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < sealedSize; at += 16) {
    view.setUint32(at, block);
    view.setUint32(at + 4, generation);
  }
  view.setUint32(sealedSize - 4, crc32(bytes.subarray(0, sealedSize - 4)));
  return bytes;
}

/** The generation of a block; throws where it is torn or another one's. */
export function generationOf(block: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, sealedSize);
  const generation = view.getUint32(4);
  const wanted = sealed(block, generation);
  if (!wanted.every((byte, index) => byte === bytes[index])) throw new Error(`block ${block} is torn or another one's`);
  return generation;
}
