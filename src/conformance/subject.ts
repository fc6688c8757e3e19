/**
 * Shared by the parts of the conformance suite: the device under test, and helpers to access it.
 */
import { buffersOf } from '../base/buffers.js';
import type { BlockDevice, WriteOptions } from '../block/device.js';
import { firstDifference } from '../block/compare.js';
import { BlockError, type BlockErrorKind } from '../block/errors.js';
import { expect } from './expect.js';

/** Adds a test to the suite. */
export type AddTest = (name: string, run: (subject: Subject) => Promise<void> | void) => void;

/** Adds tests whose names begin with that of their group. */
export function within(group: string, add: AddTest): AddTest {
  return (name, run) => add(`${group}: ${name}`, run);
}

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

/** Expects equal content; names the first difference. */
export function expectSame(got: Uint8Array, wanted: Uint8Array, what: string): void {
  expect(got.length === wanted.length, `${what}: ${got.length} bytes instead of ${wanted.length}`);
  const at = firstDifference(got, wanted);
  if (at === undefined) return;
  expect(false, `${what}: first difference at byte ${at}: ${got[at]} instead of ${wanted[at]}`);
}

/** Expects a rejection with a BlockError of one kind. */
export async function expectKind(kind: BlockErrorKind, request: Promise<unknown>): Promise<void> {
  const error = await request.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expectError(kind, error);
}

/** Expects a synchronous call to throw a BlockError of one kind. */
export function expectThrow(kind: BlockErrorKind, call: () => unknown): void {
  let error: unknown;
  try {
    call();
  } catch (thrown) {
    error = thrown;
  }
  expectError(kind, error);
}

/** Expects a BlockError of one kind. */
export function expectError(kind: BlockErrorKind, error: unknown): void {
  const found = error instanceof BlockError ? `one of kind ${error.kind}` : String(error);
  expect(found === `one of kind ${kind}`, `expected a BlockError of kind ${kind}, found ${found}`);
}
