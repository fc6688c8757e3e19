import { closeSync, openSync, writeFileSync } from 'node:fs';
import { afterEach, expect, it, vi } from 'vitest';
import type { FileCalls } from '../../src/linux/files.node.js';
import { PageCache } from '../../src/storage/page-cache.node.js';
import { tempPath } from '../support/temp.js';

/** Time that the thread is said to have waited for a processor during a write, in ms. */
let preempted = 0;
vi.mock('../../src/storage/run-delay.node.js', () => ({
  sampleRunDelay: () => undefined,
  preemptedMs: () => preempted,
}));

const page = new Uint8Array(4096);
const fds: number[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  fds.splice(0).forEach((fd) => closeSync(fd));
});

/** The page cache of a file on which the first write takes 20 ms. */
function slowOnce(): PageCache {
  const path = tempPath('disk');
  writeFileSync(path, page);
  const fd = openSync(path, 'r+');
  fds.push(fd);
  let now = 1000;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  let ms = 20;
  const writeHere = (_fd: number, from: Uint8Array): number => {
    now += ms;
    ms = 0;
    return from.length;
  };
  return new PageCache({ writeHere } as unknown as FileCalls, fd, true);
}

it('writes nothing synchronously for a while after a write that waited for a disk', () => {
  preempted = 0;
  const cache = slowOnce();
  if (!cache.writable) return;
  expect(cache.write(page, 0)).toBe(true);
  expect(cache.write(page, 0)).toBe(false);
});

it('continues after a write during which the thread only waited for a processor', () => {
  preempted = 19;
  const cache = slowOnce();
  if (!cache.writable) return;
  expect(cache.write(page, 0)).toBe(true);
  expect(cache.write(page, 0)).toBe(true);
});

it('measures the time that the thread waited for a processor', async () => {
  const { preemptedMs, sampleRunDelay } = await vi.importActual<typeof import('../../src/storage/run-delay.node.js')>(
    '../../src/storage/run-delay.node.js',
  );
  sampleRunDelay(performance.now());
  expect(preemptedMs()).toBeGreaterThanOrEqual(0);
});
