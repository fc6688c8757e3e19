/** The disks that the console page lends: one that is stopped while it is still being opened. */
import { expect, test, vi } from 'vitest';
import { lendDisk, lentFiles, stopLending } from '../../src/web/page/lend/lent-files.js';

/** The worker of a disk, which answers when the test says so. */
class FakeWorker {
  static last: FakeWorker | undefined;
  onmessage: ((event: { data: unknown }) => void) | undefined;
  onerror: unknown;
  readonly calls: { call: number; method: string }[] = [];
  ended = false;

  constructor() {
    FakeWorker.last = this;
  }

  postMessage(call: { call: number; method: string }): void {
    this.calls.push(call);
  }

  answer(error?: string): void {
    const result = this.calls.at(-1)!.call;
    const data = error === undefined ? { result, value: undefined } : { result, error: { message: error } };
    this.onmessage!({ data });
  }

  tell(event: string, value: unknown): void {
    this.onmessage!({ data: { event, value } });
  }

  terminate(): void {
    this.ended = true;
  }
}

vi.stubGlobal('Worker', FakeWorker);
vi.stubGlobal('document', { baseURI: 'http://127.0.0.1:8080/' });

/** Begins to lend a disk, up to the worker's first call. */
async function begin() {
  const lent = lendDisk('mine', 1024, 'mine');
  await vi.waitUntil(() => FakeWorker.last?.calls.length === 1, { timeout: 60_000 });
  return { lent, worker: FakeWorker.last!, id: lentFiles.value[0]!.id };
}

test('a disk that is stopped while it is being opened is not lent', async () => {
  const { lent, worker, id } = await begin();
  const stopped = stopLending(id);
  worker.answer();
  await lent;
  await vi.waitUntil(() => worker.calls.at(-1)!.method === 'stop', { timeout: 60_000 });
  worker.answer();
  await stopped;
  expect([worker.ended, lentFiles.value]).toEqual([true, []]);
});

test('a disk that cannot be closed stays in the list with the reason until it is removed', async () => {
  FakeWorker.last = undefined;
  const { lent, worker, id } = await begin();
  worker.answer();
  await lent;
  const stopped = stopLending(id);
  await vi.waitUntil(() => worker.calls.at(-1)!.method === 'stop', { timeout: 60_000 });
  worker.tell('state', { state: 'stopped', detail: 'its last writes may be lost' });
  worker.answer('its last writes may be lost');
  await stopped;
  expect(lentFiles.value).toMatchObject([{ state: 'stopped', detail: 'its last writes may be lost' }]);
  await stopLending(id);
  expect([worker.ended, lentFiles.value]).toEqual([true, []]);
});
