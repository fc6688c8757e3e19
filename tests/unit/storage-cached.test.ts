import { expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { readWhatIsCached } from '../../src/storage/transfer.node.js';
import { GuestBuffers } from '../../src/machine/guest-memory.js';
import { TestMemory } from '../support/guest-memory.js';

/**
 * A file whose bytes depend on their offset. The bytes below offset `cached` are in the page cache.
 */
const fileOf = (cached: number) => ({
  read: (into: Uint8Array, offset: number) => {
    const count = Math.max(0, Math.min(into.length, cached - offset));
    for (let i = 0; i < count; i++) into[i] = (offset + i) % 251;
    return count;
  },
});

const expected = (offset: number, length: number) => Uint8Array.from({ length }, (_, i) => (offset + i) % 251);

it.each([0, 1, 4096, 5000, 20_000])('reads the %i bytes that are cached, into one place', (cached) => {
  const bytes = new Uint8Array(20_000);
  expect(readWhatIsCached(fileOf(100 + cached), 100, buffersOf(bytes))).toBe(cached);
  expect(bytes.subarray(0, cached)).toEqual(expected(100, cached));
  expect(bytes.subarray(cached).every((byte) => byte === 0)).toBe(true);
});

it.each([0, 1, 4096, 5000, 8192])('reads the %i bytes that are cached, into memory that moves', (cached) => {
  const memory = new TestMemory(1 << 16);
  const into = new GuestBuffers(memory, [
    { address: 0x8000, length: 4096 },
    { address: 0x1000, length: 4096 },
  ]);
  expect(readWhatIsCached(fileOf(100 + cached), 100, into)).toBe(cached);
  const bytes = new Uint8Array(8192);
  into.copyTo(bytes, 0);
  expect(bytes.subarray(0, cached)).toEqual(expected(100, cached));
  expect(bytes.subarray(cached).every((byte) => byte === 0)).toBe(true);
});

it('does not hold the event loop up for more than 2 MiB', () => {
  const read = fileOf(Infinity);
  expect(readWhatIsCached(read, 0, buffersOf(new Uint8Array(5 << 20)))).toBe(2 << 20);
});
