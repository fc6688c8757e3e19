/**
 * Shared by the parts of the conformance suite: the device under test, and helpers to access it.
 */
import { expect } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice, WriteOptions } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';

/** The device under test, and the part that the tests may use. */
export interface Subject {
  readonly device: BlockDevice;
  /** Bytes from the start that may be used: a multiple of the block size. */
  readonly region: number;
  readonly seed: number;
  readonly steps: number;
}

/**
 * Reads `length` bytes at `offset`. Bytes that the read does not fill keep a value that the device
 * is unlikely to hold.
 */
export async function readBytes(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length).fill(0xc3);
  await device.read(offset, buffersOf(bytes));
  return bytes;
}

export function writeBytes(
  device: BlockDevice,
  offset: number,
  bytes: Uint8Array,
  options?: WriteOptions,
): Promise<void> {
  return device.write(offset, buffersOf(bytes), options);
}

/** Expects the device to hold `bytes` at `offset`. */
export async function expectBytes(device: BlockDevice, offset: number, bytes: Uint8Array): Promise<void> {
  expectSame(await readBytes(device, offset, bytes.length), bytes, `bytes from ${offset}`);
}

/** Expects equal content; names the first difference, which a diff of megabytes would bury. */
export function expectSame(got: Uint8Array, wanted: Uint8Array, what: string): void {
  if (Buffer.compare(got, wanted) === 0) return;
  expect(got.length, what).toBe(wanted.length);
  const at = got.findIndex((byte, index) => byte !== wanted[index]);
  expect.fail(`${what}: first difference at byte ${at}: ${got[at]} instead of ${wanted[at]}`);
}

/** Expects a rejection with a BlockError of one kind. */
export async function expectKind(kind: BlockError['kind'], request: Promise<unknown>): Promise<void> {
  const error = await request.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error, `a rejection of kind ${kind}`).toBeInstanceOf(BlockError);
  expect((error as BlockError).kind).toBe(kind);
}

/** Expects a synchronous call to throw a BlockError of one kind. */
export function expectThrow(kind: BlockError['kind'], call: () => unknown): void {
  let error: unknown;
  try {
    call();
  } catch (thrown) {
    error = thrown;
  }
  expect(error, `a BlockError of kind ${kind}`).toBeInstanceOf(BlockError);
  expect((error as BlockError).kind).toBe(kind);
}
