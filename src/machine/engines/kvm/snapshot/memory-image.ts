/**
 * A guest's memory in a snapshot: a bit for each page that is not all zeros, then these pages. A
 * system that has just booted has written a small part of its memory.
 */

const page = 4096;
/** Bytes that are looked at in one go: much of the memory was never written. */
const block = 64 * page;

/** Most pages of one run: the memory shows at most 1 GiB at once. */
const longestRun = 2 ** 16;

/** Guest memory as consecutive bytes, without the hole below 4 GiB. */
export interface LinearMemory {
  readonly size: number;
  linear(offset: number, length: number): Uint8Array;
}

/** Reports if the bytes are all zeros. */
export type IsZero = (bytes: Uint8Array) => boolean;

/** Size in bytes of the bits for `memory`. */
export function bitmapSize({ size }: LinearMemory): number {
  return Math.ceil(size / page / 8);
}

/** The pages of `memory` that are not all zeros: their bits, and their number. */
export function usedPages(memory: LinearMemory, isZero: IsZero): { bits: Uint8Array; count: number } {
  const bits = new Uint8Array(bitmapSize(memory));
  let count = 0;
  for (let start = 0; start < memory.size; start += block) {
    const end = Math.min(start + block, memory.size);
    if (isZero(memory.linear(start, end - start))) continue;
    for (let offset = start; offset < end; offset += page) {
      if (isZero(memory.linear(offset, page))) continue;
      const number = offset / page;
      bits[number >> 3] = bits[number >> 3]! | (1 << (number & 7));
      count++;
    }
  }
  return { bits, count };
}

/** Copies the pages of `bits` one after the other into `target`. */
export function copyPages(memory: LinearMemory, bits: Uint8Array, target: Uint8Array): void {
  eachRun(bits, (offset, length, at) => target.set(memory.linear(offset, length), at));
}

/** The bytes of pages that `bits` stands for; -1 if there are bits beyond the memory. */
export function bytesOfPages(memory: LinearMemory, bits: Uint8Array): number {
  let total = 0;
  let end = 0;
  eachRun(bits, (offset, length) => {
    total += length;
    end = offset + length;
  });
  return end > memory.size ? -1 : total;
}

/** Puts the pages into a memory that is all zeros. */
export function putPages(memory: LinearMemory, bits: Uint8Array, pages: Uint8Array): void {
  eachRun(bits, (offset, length, at) => memory.linear(offset, length).set(pages.subarray(at, at + length)));
}

/** Calls `visit` for each run of pages; `at` is its place among the pages that have bits. */
function eachRun(bits: Uint8Array, visit: (offset: number, length: number, at: number) => void): void {
  let at = 0;
  let start: number | undefined;
  const pages = bits.length * 8;
  for (let number = 0; number <= pages; number++) {
    const used = number < pages && (bits[number >> 3]! & (1 << (number & 7))) !== 0;
    if (start !== undefined && (!used || number - start === longestRun)) {
      const length = (number - start) * page;
      visit(start * page, length, at);
      at += length;
      start = undefined;
    }
    if (used) start ??= number;
  }
}
