/** Errors of devices for clients with tokens: kinds without texts, on every way of a request. */
import { expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { BlockError } from '../../src/block/errors.js';
import type { DirectAccess, FileRanges } from '../../src/block/direct.js';
import { Filter } from '../../src/block/filters/filter.js';
import { KindsOnly } from '../../src/export/kinds-only.js';
import { MemoryDevice } from '../../src/storage/memory.js';

const fail = (): never => {
  throw new BlockError('no-space', '/srv/secret.img is full');
};

/** Every request fails. */
class Broken extends Filter {
  protected override get uncheckedDirect(): DirectAccess {
    return { read: fail, write: fail };
  }
  protected override get uncheckedFiles(): FileRanges {
    return { resident: fail };
  }
  protected override async around<T>(): Promise<T> {
    return fail();
  }
}

it('hides the texts of requests, of synchronous transfers and of file ranges, and reports them', async () => {
  const seen: string[] = [];
  const device = new KindsOnly(new Broken(new MemoryDevice(4096)), (error) => seen.push(String(error)));
  const bytes = new Uint8Array(512);
  const told = { kind: 'no-space', message: 'the disk has failed: no-space' };
  await expect(device.read(0, buffersOf(bytes))).rejects.toMatchObject(told);
  await expect(device.flush()).rejects.toMatchObject(told);
  expect(() => device.direct!.read(0, bytes)).toThrow(told.message);
  expect(() => device.direct!.write(0, bytes)).toThrow(told.message);
  expect(() => device.files!.resident(0, 512)).toThrow(told.message);
  expect(seen).toEqual(Array(5).fill('BlockError: /srv/secret.img is full'));
});

it('passes a device that works on, with its synchronous transfers', async () => {
  const memory = new MemoryDevice(4096);
  const device = new KindsOnly(memory, fail);
  await device.write(512, buffersOf(new Uint8Array(512).fill(7)));
  const read = new Uint8Array(512);
  await device.read(512, buffersOf(read));
  expect(read.every((byte) => byte === 7)).toBe(true);
  expect(device.direct === undefined).toBe(memory.direct === undefined);
});
