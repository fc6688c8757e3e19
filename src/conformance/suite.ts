/**
 * The conformance suite: the duties of every BlockDevice towards its callers (block/device.ts), as
 * a list of tests for any test runner.
 *
 * Not here: crash safety, reconnection, disks that are replaced while they are in use, and the
 * properties of single protocols.
 */
import { buffersOf } from '../base/buffers.js';
import type { BlockDevice } from '../block/device.js';
import { BlockError } from '../block/errors.js';
import { dataTests } from './data.js';
import { expect } from './expect.js';
import { facetTests, type FacetName, type ReadDescriptor } from './facets.js';
import { pagedTests } from './paged.js';
import { Random } from './random.js';
import { randomOperations } from './random-operations.js';
import { refusalTests } from './refusals.js';
import { expectBytes, expectKind, expectThrow, type AddTest, type Subject } from './subject.js';
import { unalignedTests } from './unaligned.js';
import { zeroTests } from './zeroes.js';

/** A device that the suite may use until it has closed it. */
export interface OpenedDevice {
  /** It must be writable, except for {@link ConformanceOptions.openReadOnly}. */
  readonly device: BlockDevice;
  /** Called after the device was closed. */
  cleanup?(): Promise<void> | void;
}

/** Opens the device under test. Several may be opened one after another, never two at a time. */
export type OpenDevice = () => Promise<OpenedDevice> | OpenedDevice;

/** Options of {@link conformance}. */
export interface ConformanceOptions {
  /**
   * Bytes from the start of the device that are used, at most; fewer for slow devices. The last
   * block is used as well. Default 1 MiB; at least 256 KiB is best.
   */
  readonly region?: number;
  /** Number of requests of the random mixture. Default 400. */
  readonly steps?: number;
  /** Seed of every random choice. Default 1. */
  readonly seed?: number;
  /** Opens the same kind of device read-only; its content does not matter. Default: not tested. */
  readonly openReadOnly?: OpenDevice;
  /** The facets that the device offers: `direct`, `files`. Default: none. */
  readonly facets?: readonly FacetName[];
  /**
   * For the facet `files`: reads from an open file, for example by Node's `readSync`.
   */
  readonly readDescriptor?: ReadDescriptor;
  /**
   * Each opening gives the same medium: flushed data must be there the next time. Default false.
   */
  readonly persistent?: boolean;
}

/** A test of the suite. */
export interface ConformanceTest {
  /** The promise that it tests; unique within the suite. */
  readonly name: string;
  /** Opens a device, tests it and closes it. Rejects with an Error if the promise is broken. */
  readonly run: () => Promise<void>;
}

/** A test that uses a device which is open already. */
export interface SubjectTest {
  readonly name: string;
  readonly run: (subject: Subject) => Promise<void> | void;
}

/** The tests that share an open device, and those that open their own. */
export interface Suite {
  readonly shared: readonly SubjectTest[];
  readonly own: readonly ConformanceTest[];
}

/**
 * The suite for one kind of device, as a list of tests. They overwrite the content of the device,
 * within {@link ConformanceOptions.region} bytes from its start and in its last block. Run them one
 * after the other.
 *
 * @param open opens the device; called once for each test
 *
 * @example With Node's test runner; it is the same with others
 * ```ts
 * import test from 'node:test';
 * import { MemoryDevice } from 'farbus';
 * import { conformance } from 'farbus/conformance';
 *
 * for (const { name, run } of conformance(() => ({ device: new MemoryDevice(4 << 20) }))) {
 *   test(name, run);
 * }
 * ```
 */
export function conformance(open: OpenDevice, options: ConformanceOptions = {}): readonly ConformanceTest[] {
  const { shared, own } = suiteOf(open, options);
  const withDevice = ({ name, run }: SubjectTest): ConformanceTest => ({
    name,
    run: () => using(open, async (device) => run(subjectOf(device, options))),
  });
  return [...shared.map(withDevice), ...own];
}

/** The suite in two parts, for a runner that opens the device once for all tests. */
export function suiteOf(open: OpenDevice, options: ConformanceOptions): Suite {
  const shared: SubjectTest[] = [];
  const add: AddTest = (name, run) => shared.push({ name, run });
  infoTests(add);
  dataTests(add);
  zeroTests(add);
  pagedTests(add);
  refusalTests(add);
  facetTests(add, options.facets ?? [], options.readDescriptor);
  randomOperations(add);
  unalignedTests(add);
  const { openReadOnly } = options;
  const own = [...closingTests(open, options.persistent ?? false)];
  if (openReadOnly) {
    const run = (): Promise<void> => using(openReadOnly, readOnly);
    own.push({ name: 'read-only: reads, and refuses every change', run });
  }
  return { shared, own };
}

/** The part of the device that the tests use. */
export function subjectOf(
  device: BlockDevice,
  { region = 1 << 20, steps = 400, seed = 1 }: ConformanceOptions,
): Subject {
  const { size, blockSize } = device.info;
  const used = Math.min(size, region);
  return { device, region: used - (used % blockSize), seed, steps };
}

/** Opens a device, uses it, and closes it. */
async function using(open: OpenDevice, use: (device: BlockDevice) => Promise<void>): Promise<void> {
  const opened = await open();
  try {
    await use(opened.device);
  } finally {
    await opened.device.close();
    await opened.cleanup?.();
  }
}

function infoTests(test: AddTest): void {
  test('info keeps its promises', ({ device: { info } }) => {
    const { size, blockSize, preferredSize, maxTransfer, can } = info;
    const powerOfTwo = (value: number): boolean => value > 0 && 2 ** Math.round(Math.log2(value)) === value;
    expect(Number.isSafeInteger(size) && size >= 0, `size is ${size}`);
    expect(powerOfTwo(blockSize) && blockSize <= 65536, `blockSize is ${blockSize}: expected a power of two to 65536`);
    expect(size % blockSize === 0, `size is ${size}, no multiple of the blockSize ${blockSize}`);
    expect(powerOfTwo(preferredSize), `preferredSize is ${preferredSize}: expected a power of two`);
    expect(preferredSize >= blockSize, `preferredSize ${preferredSize} is less than blockSize ${blockSize}`);
    expect(maxTransfer >= blockSize, `maxTransfer ${maxTransfer} is less than blockSize ${blockSize}`);
    expect(maxTransfer % blockSize === 0, `maxTransfer ${maxTransfer} is no multiple of blockSize ${blockSize}`);
    expect(!can.fua || can.flush, 'can.fua without can.flush: a flush would lose what a write with FUA keeps');
  });
}

async function readOnly(device: BlockDevice): Promise<void> {
  const { blockSize, readOnly: says } = device.info;
  expect(says, 'info.readOnly is false');
  const block = buffersOf(new Uint8Array(blockSize));
  await device.read(0, block);
  await expectKind('read-only', device.write(0, block));
  await expectKind('read-only', device.trim(0, blockSize));
  await expectKind('read-only', device.writeZeroes(0, blockSize));
  const { direct } = device;
  if (direct) expectThrow('read-only', () => direct.write(0, new Uint8Array(blockSize)));
  await device.flush();
}

function* closingTests(open: OpenDevice, persistent: boolean): Iterable<ConformanceTest> {
  yield {
    name: 'close waits for requests in flight, is idempotent, and ends everything',
    run: () => using(open, closing),
  };
  if (!persistent) return;
  yield {
    name: 'flushed data is there after closing and opening again',
    run: async () => {
      let wrote: Uint8Array | undefined;
      await using(open, async (device) => {
        wrote = new Random(Date.now()).bytes(device.info.blockSize);
        await device.write(0, wrote);
        await device.flush();
      });
      await using(open, (device) => expectBytes(device, 0, wrote!));
    },
  };
}

async function closing(device: BlockDevice): Promise<void> {
  const { blockSize, size } = device.info;
  const length = Math.min(size, Math.max(blockSize, 65536));
  const inFlight: Promise<unknown>[] = [];
  let settled = 0;
  const start = (request: Promise<unknown>): void => {
    inFlight.push(request.finally(() => settled++));
  };
  for (let i = 0; i < 8; i++) start(device.read(0, buffersOf(new Uint8Array(length))));
  if (!device.info.readOnly) {
    for (let i = 0; i < 8; i++) start(device.write(0, buffersOf(new Uint8Array(length))));
    start(device.flush());
  }
  const results = Promise.allSettled(inFlight);
  const first = device.close();
  await Promise.all([first, device.close()]);
  expect(settled === inFlight.length, `close did not wait for ${inFlight.length - settled} requests`);
  for (const result of await results) {
    if (result.status === 'rejected') expect(result.reason instanceof BlockError, String(result.reason));
  }
  await device.close();
  const block = buffersOf(new Uint8Array(blockSize));
  await expectKind('closed', device.read(0, block));
  await expectKind('closed', device.write(0, block));
  await expectKind('closed', device.flush());
  await expectKind('closed', device.trim(0, blockSize));
  await expectKind('closed', device.writeZeroes(0, blockSize));
  await expectKind('closed', device.extents(0, blockSize));
  const { direct, files } = device;
  if (direct) {
    expectThrow('closed', () => direct.read(0, new Uint8Array(blockSize)));
    expectThrow('closed', () => direct.write(0, new Uint8Array(blockSize)));
  }
  if (files) expectThrow('closed', () => files.resident(0, blockSize));
}
