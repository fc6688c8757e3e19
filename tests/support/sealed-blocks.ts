/**
 * Blocks that contain their number and generation, so that after a crash the state of each can be
 * determined.
 */
import { crc32 } from '../../src/base/crc32.js';

export const sealedSize = 4096;

/** Makes block number `block` of a generation. Generation 0 is all zeroes: never written. */
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

/**
 * Returns the generation of a block.
 * @throws Error if the block is torn or is another block
 */
export function generationOf(block: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, sealedSize);
  const generation = view.getUint32(4);
  const wanted = sealed(block, generation);
  if (!wanted.every((byte, index) => byte === bytes[index])) throw new Error(`block ${block} is torn or another one's`);
  return generation;
}
