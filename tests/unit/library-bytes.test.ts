/**
 * Data that a program passes to the library: typed arrays of any realm, guest memory, or wrong
 * types.
 */
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  BlockError,
  buffersOf,
  createOverlay,
  MemoryDevice,
  overlayStoreSize,
  SliceFilter,
  type BlockDevice,
} from '../../src/api/index.js';
import { byteAccess } from '../../src/block/filters/byte-access.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';

const size = 1 << 20;
const devices: readonly (readonly [string, () => Promise<BlockDevice>])[] = [
  ['memory', async () => new MemoryDevice(size)],
  ['a slice', async () => new SliceFilter(new MemoryDevice(2 * size), 4096, size)],
  ['byte access', async () => byteAccess(new MemoryDevice(size))],
  ['a virtual I/O client', async () => new VirtualIoClient(new MemoryDevice(size))],
  [
    'an overlay',
    async () => {
      const base = new MemoryDevice(size);
      return createOverlay(base, new MemoryDevice(overlayStoreSize(base)));
    },
  ],
];

describe.each(devices)('%s', (_name, open) => {
  test('accepts a Uint8Array, a Buffer and an array of another realm, and fills them', async () => {
    const disk = await open();
    const other = runInNewContext('new Uint8Array(4096).fill(3)') as Uint8Array;
    for (const [index, data] of [new Uint8Array(4096).fill(1), Buffer.alloc(4096, 2), other].entries()) {
      await disk.write(index * 4096, data);
    }
    const into = new Uint8Array(3 * 4096);
    await disk.read(0, into);
    expect([into[0], into[4096], into[8192], into[3 * 4096 - 1]]).toEqual([1, 2, 3, 3]);
    const part = Buffer.alloc(8192);
    await disk.read(4096, buffersOf(part.subarray(4096)));
    expect([part[0], part[4096]]).toEqual([0, 2]);
    await disk.close();
  });
});

test('something else is refused, and nothing is written', async () => {
  const disk = new MemoryDevice(size);
  for (const wrong of ['text', [1, 2], new ArrayBuffer(512), {}, null, undefined, 7]) {
    for (const attempt of [disk.write(0, wrong as never), disk.read(0, wrong as never)]) {
      const error = await attempt.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(BlockError);
      expect(error).toMatchObject({ kind: 'range', message: 'the data is neither a Uint8Array nor Buffers' });
    }
  }
});
