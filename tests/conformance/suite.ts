/**
 * The conformance suite: the duties of every BlockDevice towards its callers (src/block/device.ts).
 * One call in a test file runs it on one device or composition:
 *
 *     conformance('file', async () => ({ device: await openFile(path) }));
 *
 * The suite overwrites the content of a writable device, but only within `region` bytes from its
 * start and in its last bytes. Each `open()` must return a working device. Several may be opened
 * one after another, never two at a time.
 *
 * Not here: disks that are replaced while they are in use (replaced.ts, for each kind of source),
 * crash safety, reconnection, and the properties of single protocols.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';
import { dataTests } from './data.js';
import { facetTests, type FacetName } from './facets.js';
import { pagedTests } from './paged.js';
import { Random } from '../support/random.js';
import { randomOperations } from './random-operations.js';
import { refusalTests } from './refusals.js';
import { expectKind, expectThrow, type Subject } from './subject.js';
import { unalignedTests } from './unaligned.js';
import { zeroTests } from './zeroes.js';

export interface Opened {
  readonly device: BlockDevice;
  /** Called after the device was closed. */
  cleanup?(): Promise<void> | void;
}

export interface ConformanceOptions {
  /**
   * Bytes from the start that are used, at most; fewer for slow devices. Default 1 MiB; at least
   * 256 KiB is best.
   */
  readonly region?: number;
  /** Steps of the random-operations test. Default 400. */
  readonly steps?: number;
  /** Seed of every random choice. Default 1. */
  readonly seed?: number;
  /** Opens the same kind of device read-only; its content is not looked at. */
  readonly openReadOnly?: () => Promise<Opened>;
  /** The facets that the device offers (src/block/direct.ts); default: none. */
  readonly facets?: readonly FacetName[];
  /** Every `open()` gives the same medium: what was flushed must be there the next time. */
  readonly persistent?: boolean;
}

/** Describes and runs the whole suite on what `open` gives. */
export function conformance(name: string, open: () => Promise<Opened>, options: ConformanceOptions = {}): void {
  describe(`BlockDevice conformance: ${name}`, () => {
    let opened: Opened;
    beforeAll(async () => {
      opened = await open();
    });
    afterAll(async () => {
      await opened?.device.close();
      await opened?.cleanup?.();
    });
    const subject = (): Subject => {
      const { device } = opened;
      const { size, blockSize } = device.info;
      const region = Math.min(size, options.region ?? 1 << 20);
      return {
        device,
        region: region - (region % blockSize),
        seed: options.seed ?? 1,
        steps: options.steps ?? 400,
      };
    };

    infoTests(subject);
    dataTests(subject);
    zeroTests(subject);
    pagedTests(subject);
    refusalTests(subject);
    facetTests(subject, options.facets ?? []);
    randomOperations(subject);
    unalignedTests(subject);

    const { openReadOnly } = options;
    if (openReadOnly) test('read-only: reads, and refuses every change', () => readOnly(openReadOnly));
  });
  describe(`BlockDevice conformance: ${name}: closing`, () => closeTests(open, options.persistent ?? false));
}

function infoTests(subject: () => Subject): void {
  test('info keeps its promises', () => {
    const { info } = subject().device;
    const powerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
    expect(Number.isSafeInteger(info.size) && info.size >= 0).toBe(true);
    expect(powerOfTwo(info.blockSize) && info.blockSize <= 65536).toBe(true);
    expect(info.size % info.blockSize).toBe(0);
    expect(powerOfTwo(info.preferredSize)).toBe(true);
    expect(info.preferredSize).toBeGreaterThanOrEqual(info.blockSize);
    expect(info.maxTransfer).toBeGreaterThanOrEqual(info.blockSize);
    expect(info.maxTransfer % info.blockSize).toBe(0);
    if (info.can.fua) expect(info.can.flush).toBe(true);
  });
}

async function readOnly(open: () => Promise<Opened>): Promise<void> {
  const { device, cleanup } = await open();
  try {
    const { blockSize, readOnly: says } = device.info;
    expect(says).toBe(true);
    const block = buffersOf(new Uint8Array(blockSize));
    await device.read(0, block);
    await expectKind('read-only', device.write(0, block));
    await expectKind('read-only', device.trim(0, blockSize));
    await expectKind('read-only', device.writeZeroes(0, blockSize));
    const { direct } = device;
    if (direct) expectThrow('read-only', () => direct.write(0, new Uint8Array(blockSize)));
    await device.flush();
  } finally {
    await device.close();
    await cleanup?.();
  }
}

function closeTests(open: () => Promise<Opened>, persistent: boolean): void {
  test('close waits for requests in flight, is idempotent, and ends everything', async () => {
    const { device, cleanup } = await open();
    try {
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
      expect(settled).toBe(inFlight.length);
      for (const result of await results) {
        if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(BlockError);
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
    } finally {
      await device.close();
      await cleanup?.();
    }
  });

  if (!persistent) return;
  test('flushed data is there after closing and opening again', async () => {
    const first = await open();
    const { blockSize } = first.device.info;
    const wrote = new Random(Date.now()).bytes(blockSize);
    await first.device.write(0, buffersOf(wrote));
    await first.device.flush();
    await first.device.close();
    await first.cleanup?.();
    const second = await open();
    try {
      const back = new Uint8Array(blockSize);
      await second.device.read(0, buffersOf(back));
      expect(back).toEqual(wrote);
    } finally {
      await second.device.close();
      await second.cleanup?.();
    }
  });
}
