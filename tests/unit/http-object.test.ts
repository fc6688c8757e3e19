/** Reads of an object on a web server that is silent (src/storage/http/object.ts). */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { HttpResponse, Send } from '../../src/storage/http/exchange.js';
import { HttpObject } from '../../src/storage/http/object.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('many reads are given up when the reconnect time is over, also those that had no turn', async () => {
  let speaks = true;
  const send: Send = (_url, { headers, signal }) => {
    const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(headers['range']!)!.map(Number) as [number, number, number];
    if (speaks) return Promise.resolve(answer(start, last));
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  };
  const options = { url: 'http://host/a', shown: 'http://host/a', reconnectSeconds: 60, log: silent };
  const signal = new AbortController().signal;
  const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
  speaks = false;
  let ended = 0;
  for (let at = 0; at < 500; at++) {
    object.read(at * 1000, buffersOf(new Uint8Array(512)), signal).catch(() => ended++);
  }
  const abort = new AbortController();
  const given = object.read(0, buffersOf(new Uint8Array(512)), abort.signal);
  abort.abort();
  await expect(given).rejects.toMatchObject({ kind: 'aborted' });
  expect(ended).toBe(0);
  // The reconnect time, and twice the silence after which a request is given up.
  await vi.advanceTimersByTimeAsync(101_000);
  expect(ended).toBe(500);
  speaks = true;
  await object.read(0, buffersOf(new Uint8Array(512)), signal);
});

function answer(start: number, last: number): HttpResponse {
  const headers: Record<string, string> = { etag: '"1"', 'content-range': `bytes ${start}-${last}/1000000` };
  return {
    url: '',
    status: 206,
    header: (name) => headers[name],
    body: (async function* () {
      yield new Uint8Array(last + 1 - start);
    })(),
    drop: () => undefined,
  };
}
