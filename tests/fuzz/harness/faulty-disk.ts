/**
 * Requests in several stripes of a device at once while its requests may fail: what a request reads
 * is right to the byte. A byte that a failed write may have changed is unsure until it is written
 * again.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { buffersOf } from '../../../src/base/buffers.js';
import type { BlockDevice } from '../../../src/block/device.js';
import { BlockError } from '../../../src/block/errors.js';

export const diskSize = 64 << 10;
const stripes = 8;
const stripeSize = diskSize / stripes;

/** The content of the disk at first. */
export function freshDisk(): Uint8Array {
  return new Uint8Array(diskSize).map((_, i) => (i * 7) % 251);
}

export interface Request {
  readonly op: 'read' | 'write' | 'zero' | 'flush';
  /** First block of 512 bytes in the stripe, and number of blocks. */
  readonly at: number;
  readonly length: number;
  readonly fill: number;
}

/** A list of requests for each stripe; each request has at most `maxBlocks` blocks. */
export function work(ops: readonly Request['op'][], maxBlocks: number): fc.Arbitrary<Request[][]> {
  const request = fc.record({
    op: fc.constantFrom(...ops),
    at: fc.nat(15),
    length: fc.integer({ min: 1, max: maxBlocks }),
    fill: fc.nat(255),
  });
  const list = fc.array(request, { minLength: 1, maxLength: 8 });
  return fc.array(list, { minLength: stripes, maxLength: stripes });
}

/** Makes the requests. Then closes the device and compares `disk`, which is behind it. */
export async function makeRequests(device: BlockDevice, disk: Uint8Array, lists: readonly Request[][]): Promise<void> {
  const model = disk.slice();
  const unsure = new Uint8Array(diskSize);
  await Promise.all(
    lists.map(async (list, stripe) => {
      for (const { op, at, length: blocks, fill } of list) {
        const length = Math.min(blocks * 512, stripeSize - at * 512);
        const offset = stripe * stripeSize + at * 512;
        const bytes = new Uint8Array(length).fill(op === 'zero' ? 0 : fill);
        try {
          if (op === 'read') {
            await device.read(offset, buffersOf(bytes));
            same(bytes, model.subarray(offset), unsure.subarray(offset));
          } else if (op === 'flush') {
            await device.flush();
          } else {
            unsure.fill(1, offset, offset + length);
            await (op === 'zero' ? device.writeZeroes(offset, length) : device.write(offset, buffersOf(bytes)));
            unsure.fill(0, offset, offset + length);
            model.set(bytes, offset);
          }
        } catch (error) {
          if (!(error instanceof BlockError)) throw error;
          expect(error.kind).toBe('io');
        }
      }
    }),
  );
  await device.close();
  same(disk, model, unsure);
}

/** Fails unless all bytes that are sure are the model's. */
function same(got: Uint8Array, model: Uint8Array, unsure: Uint8Array): void {
  const at = got.findIndex((byte, i) => !unsure[i] && byte !== model[i]);
  if (at >= 0) expect.fail(`byte ${at} is ${got[at]} instead of ${model[at]}`);
}
