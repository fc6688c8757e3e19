import { expect, test } from 'vitest';
import { Deadline } from '../../src/base/deadline.js';
import { sleep } from '../../src/base/event-loop.js';

const aborted = (signal: AbortSignal) =>
  new Promise<unknown>((resolve) => signal.addEventListener('abort', () => resolve(signal.reason)));

test('aborts when the time has passed, whatever the garbage collector does', async () => {
  const parent = new AbortController();
  const limits = Array.from({ length: 200 }, () => aborted(new Deadline(300, parent.signal).signal));
  // Make enough garbage for several collections while the deadlines wait.
  for (let i = 0; i < 20; i++) {
    Array.from({ length: 20_000 }, () => ({ some: new Uint8Array(16) }));
    await sleep(5);
  }
  for (const reason of await Promise.all(limits)) expect(reason).toMatchObject({ name: 'TimeoutError' });
});

test("tells a time limit from its parent's abort", async () => {
  const short = new Deadline(1);
  await aborted(short.signal);
  expect(short.passed).toBe(true);

  const parent = new AbortController();
  const long = new Deadline(1e6, parent.signal);
  parent.abort(new Error('enough'));
  expect(long.signal.reason).toEqual(new Error('enough'));
  expect(long.passed).toBe(false);
  expect(new Deadline(1e6, parent.signal).signal.aborted).toBe(true);
});

test('once ended it never aborts', async () => {
  const parent = new AbortController();
  const limit = new Deadline(1, parent.signal);
  limit.end();
  parent.abort();
  await sleep(20);
  expect(limit.signal.aborted).toBe(false);
});
