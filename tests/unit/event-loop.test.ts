/** Pauses that many requests take on one signal (src/base/event-loop.ts). */
import { expect, it } from 'vitest';
import { sleep } from '../../src/base/event-loop.js';

it('many sleeps on one signal warn of no leak, and all end with it', async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error): void => void warnings.push(warning);
  process.on('warning', warned);
  const abort = new AbortController();
  const sleeps = Promise.allSettled(Array.from({ length: 20 }, () => sleep(1e6, abort.signal)));
  await sleep(1, abort.signal);
  abort.abort(new Error('over'));
  const ends = await sleeps;
  // Node warns in a later iteration.
  await sleep(1);
  process.off('warning', warned);
  expect(ends.filter((one) => one.status === 'rejected' && (one.reason as Error).message === 'over')).toHaveLength(20);
  expect(warnings).toEqual([]);
});
