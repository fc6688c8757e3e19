/**
 * The conformance suite as a library user has it: a device that breaks a promise fails the tests of
 * that promise, and the example runs it with Node's test runner.
 *
 * Not here: the suite on our own devices (tests/conformance).
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { BlockError, MemoryDevice, type BlockDevice } from '../../src/api/index.js';
import { conformance, ConformanceError, type ConformanceOptions } from '../../src/api/conformance.js';
import type { Buffers } from '../../src/base/buffers.js';

const size = 1 << 20;

/** The names of the tests that a device fails. */
async function failures(make: () => BlockDevice, options: ConformanceOptions = {}): Promise<string[]> {
  const failed: string[] = [];
  for (const { name, run } of conformance(() => ({ device: make() }), { region: 64 << 10, steps: 60, ...options })) {
    await run().catch((error: unknown) => {
      if (!(error instanceof ConformanceError || error instanceof BlockError)) throw error;
      failed.push(name);
    });
  }
  return failed;
}

class Broken extends MemoryDevice {
  constructor() {
    super(size);
  }
}

/** Loses the second half of long writes. */
class LosesHalf extends Broken {
  protected override doWrite(offset: number, from: Buffers): Promise<void> {
    return super.doWrite(offset, from.length > 8192 ? from.slice(0, from.length / 2) : from);
  }
}

/** Keeps a view of memory that can move. */
class KeepsMemory extends Broken {
  protected override async doRead(_offset: number, into: Buffers): Promise<void> {
    const bytes = new Uint8Array(into.length);
    into.copyTo(bytes, 0);
    await new Promise((resolve) => setImmediate(resolve));
    into.copyFrom(bytes, 0);
  }
}

/** Zeroes one block too many. */
class ZeroesTooMuch extends Broken {
  protected override doWriteZeroes(offset: number, length: number): Promise<void> {
    return super.doWriteZeroes(offset, Math.min(length + 512, size - offset));
  }
}

/** Answers requests beyond its end. */
class HasNoEnd extends Broken {
  override async read(offset: number, into: Uint8Array | Buffers): Promise<void> {
    if (offset + into.length <= size) await super.read(offset, into);
  }
}

/** Does not wait for requests in flight. */
class ClosesEarly extends Broken {
  protected override async doRead(offset: number, into: Buffers): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await super.doRead(offset, into);
  }
  override close(): Promise<void> {
    void super.close();
    return Promise.resolve();
  }
}

describe('a device that breaks a promise fails the tests of it', () => {
  it.each([
    ['loses data', LosesHalf, 'data: long requests, beginning and ending between preferred units'],
    ['ignores what it reads', KeepsMemory, 'scattered memory that moves during a request: 9 blocks'],
    ['zeroes too much', ZeroesTooMuch, 'trim, zeroes, extents: write zeroes: noHole false, fua false, fastOnly false'],
    ['has no end', HasNoEnd, 'refusals: requests beyond the end, before the start or with fractions are out of range'],
    ['closes early', ClosesEarly, 'close waits for requests in flight, is idempotent, and ends everything'],
  ] as const)('%s', async (_what, Device, name) => {
    const test = conformance(() => ({ device: new Device() })).find((one) => one.name === name)!;
    await expect(test.run()).rejects.toThrow(/instead of|expected|did not wait/);
  });

  it('offers other facets, or forgets what was flushed', async () => {
    expect(await failures(() => new MemoryDevice(size), { facets: ['direct'] })).toEqual([
      'facets offered: direct',
      'synchronous reads and writes transfer the same bytes as the others',
      'synchronous requests refuse ranges like the others',
    ]);
    expect(await failures(() => new MemoryDevice(size), { persistent: true })).toEqual([
      'flushed data is there after closing and opening again',
    ]);
  });
});

it('each test has a name of its own, and a right device passes all', async () => {
  const names = conformance(() => ({ device: new MemoryDevice(size) })).map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(await failures(() => new MemoryDevice(size))).toEqual([]);
});

it('examples/library/filter.mjs passes, and would fail without the inversion of what is read', () => {
  const example = fileURLToPath(new URL('../../examples/library/filter.mjs', import.meta.url));
  const run = (text: string) => {
    const args = ['--input-type=module', '--eval', text];
    return spawnSync(process.execPath, args, { encoding: 'utf8', cwd: dirname(example) });
  };
  const text = readFileSync(example, 'utf8');
  expect(run(text)).toMatchObject({ status: 0, stdout: '', stderr: '' });
  expect(run(text.replace('into.copyFrom(inverted(bytes), 0)', 'into.copyFrom(bytes, 0)')).status).toBe(1);
});

it("examples/library/device.mjs passes with Node's test runner", () => {
  const example = fileURLToPath(new URL('../../examples/library/device.mjs', import.meta.url));
  const env = { ...process.env, NODE_TEST_CONTEXT: undefined };
  const { stdout, status } = spawnSync(process.execPath, ['--test', example], { encoding: 'utf8', env });
  expect(stdout).toMatch(/^# fail 0$/m);
  expect(Number(/^# pass (\d+)$/m.exec(stdout)![1])).toBeGreaterThan(30);
  expect(status).toBe(0);
});
