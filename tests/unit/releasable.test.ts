/** Memory that is given back at once: a guest's kernel after its boot. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { release, releasable } from '../../src/base/releasable.js';
import { cachedFiles } from '../../src/guest/cache.node.js';
import { tempFolder } from '../support/temp.js';

it('releases bytes that were made for it, and leaves others', () => {
  const bytes = releasable(1 << 20);
  bytes.fill(7);
  expect(bytes.length).toBe(1 << 20);
  release(bytes);
  release(bytes);
  expect([bytes.length, bytes.buffer.byteLength]).toEqual([0, 0]);
  const others = new Uint8Array(8);
  release(others);
  expect(others.length).toBe(8);
});

it("files of the guests' cache can be released", async () => {
  const path = join(tempFolder(), 'entry');
  const content = Uint8Array.from({ length: 100_000 }, (_, i) => i & 0xff);
  const make = () => Promise.resolve({ kernel: content, empty: new Uint8Array(0) });
  await cachedFiles(path, ['kernel', 'empty'], make);
  const { kernel, empty } = await cachedFiles(path, ['kernel', 'empty'], () => Promise.reject(new Error('not cached')));
  expect(Buffer.compare(kernel, content)).toBe(0);
  expect(empty.length).toBe(0);
  release(kernel);
  expect(kernel.length).toBe(0);
});
