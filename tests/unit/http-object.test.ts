/** Reads of an object on a web server that is silent, slow or busy (src/storage/http/object.ts). */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { messageOf } from '../../src/base/errors.js';
import { silent } from '../../src/base/log.js';
import type { BodySink, HttpHead, HttpRequest, Send } from '../../src/storage/http/exchange.js';
import { HttpDisk } from '../../src/storage/http/device.js';
import { HttpObject } from '../../src/storage/http/object.js';
import { openObject } from '../../src/storage/http/open.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('many reads are given up when the reconnect time is over, also those that had no turn', async () => {
  let speaks = true;
  const send: Send = (_url, request) => {
    if (speaks) return answer(request);
    return new Promise((_resolve, reject) => request.endBy(reject));
  };
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

const options = { url: 'http://host/a', shown: 'http://host/a', reconnectSeconds: 60, log: silent };
const { signal } = new AbortController();

it('a read is given up if a server sends a byte now and then, or ends the answer after each', async () => {
  for (const endsEarly of [false, true]) {
    let isSlow = false;
    const send: Send = async (_url, request) => {
      if (!isSlow) return answer(request);
      let reason: Error | undefined;
      request.endBy((why) => (reason = why));
      const [start, last] = rangeIn(request);
      const sink = request.receive(head(start, last));
      for (let at = start; at <= last; at++) {
        await new Promise((resolve) => setTimeout(resolve, 10_000));
        if (reason) throw reason;
        sink.take(new Uint8Array(1));
        if (endsEarly) throw new Error('the connection ended');
      }
    };
    const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
    isSlow = true;
    let failure: unknown;
    object.read(0, buffersOf(new Uint8Array(4096)), signal).catch((error: unknown) => (failure = error));
    // The reconnect time, 4.1 s for 4096 bytes, and the byte that is under way.
    await vi.advanceTimersByTimeAsync(90_000);
    expect(failure).toMatchObject({ kind: 'unreachable' });
  }
});

it('an outage within a slow read does not count as slowness', async () => {
  let requests = 0;
  const send: Send = async (_url, request) => {
    requests++;
    // Two outages of 50 s, with a byte in between: longer together than a read may be slow.
    if (requests > 1 && performance.now() < away[0]!) throw new Error('away');
    if (requests === 1 || away.length === 0) return answer(request);
    away.shift();
    away = away.map(() => performance.now() + 50_000);
    request.receive(head(...rangeIn(request))).take(new Uint8Array(1));
    throw new Error('cut');
  };
  const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
  let away = [performance.now() + 50_000, 0];
  let ended = false;
  void object.read(0, buffersOf(new Uint8Array(512)), signal).then(() => (ended = true));
  await vi.advanceTimersByTimeAsync(110_000);
  expect([ended, away]).toEqual([true, []]);
});

it('a read that is under way when the process sleeps is tried again on waking', async () => {
  const now = performance.now.bind(performance);
  let slept = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now() + slept);
  try {
    let cut: ((reason: Error) => void) | undefined;
    let requests = 0;
    const send: Send = (_url, request) => {
      if (++requests !== 2) return answer(request);
      return new Promise((_resolve, reject) => (cut = reject));
    };
    const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
    const read = object.read(0, buffersOf(new Uint8Array(512)), signal);
    const ended = read.then(() => 'read', messageOf);
    await vi.advanceTimersByTimeAsync(1000);
    slept = 3_600_000;
    cut!(new Error('the connection ended'));
    await vi.advanceTimersByTimeAsync(1000);
    expect(await ended).toBe('read');
    object.stop();
  } finally {
    vi.restoreAllMocks();
  }
});

it.each([
  ['seconds', () => '30'],
  ['a date', () => new Date(Date.now() + 30_000).toUTCString()],
])('the pause that Retry-After asks for in %s is kept', async (_form, retryAfter) => {
  let readyAt = 0;
  let early = 0;
  const send: Send = async (_url, request) => {
    if (performance.now() >= readyAt) return answer(request);
    early++;
    request.receive({ url: '', status: 429, header: (name) => (name === 'retry-after' ? value : undefined) });
  };
  const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
  const value = retryAfter();
  readyAt = performance.now() + 28_000;
  let ended = false;
  void object.read(0, buffersOf(new Uint8Array(512)), signal).then(() => (ended = true));
  await vi.advanceTimersByTimeAsync(31_000);
  // One request found the server busy, and the next one came after the pause.
  expect([early, ended]).toEqual([1, true]);
});

it('a server that drops requests behind others gets them one by one', async () => {
  const send: Send = (_url, request) => {
    if (!request.mayQueue) return answer(request);
    return new Promise((_resolve, reject) => request.endBy(reject));
  };
  const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
  let ended = 0;
  for (let at = 0; at < 5; at++) {
    void object.read(at * 1000, buffersOf(new Uint8Array(512)), signal).then(() => ended++);
  }
  // The silence after which a request is given up, and the pause before the next one.
  await vi.advanceTimersByTimeAsync(21_000);
  expect(ended).toBe(5);
});

it('memory is not written after its read has failed', async () => {
  let sink: BodySink | undefined;
  const send: Send = async (_url, request) => {
    if (!hangs) return answer(request);
    sink = request.receive(head(...rangeIn(request)));
    await new Promise<never>((_resolve, reject) => request.endBy(reject));
  };
  let hangs = false;
  const object = await HttpObject.open({ ...options, send, close: async () => undefined }, signal);
  hangs = true;
  const abort = new AbortController();
  const bytes = new Uint8Array(512);
  const read = object.read(0, buffersOf(bytes), abort.signal);
  abort.abort();
  await expect(read).rejects.toMatchObject({ kind: 'aborted' });
  sink!.take(new Uint8Array(512).fill(1));
  expect(bytes.every((byte) => byte === 0)).toBe(true);
});

it.each([
  ['a near server', 1, 1],
  ['a far server', 20, 4],
])('1 MiB of %s takes as many requests as its distance asks for', async (_name, delayMs, wanted) => {
  let requests = 0;
  const send: Send = async (_url, request) => {
    requests++;
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    return answer(request);
  };
  const opening = HttpDisk.open({ ...options, send, close: async () => undefined });
  await vi.advanceTimersByTimeAsync(100);
  const disk = await opening;
  requests = 0;
  const read = disk.read(0, new Uint8Array(1 << 20));
  await vi.advanceTimersByTimeAsync(100);
  await read;
  expect(requests).toBe(wanted);
});

it.each([
  [200, { 'content-length': '100' }, 'the server does not serve ranges of bytes, which a disk needs'],
  [200, { 'content-length': '0' }, 'the object is empty'],
  [416, {}, 'the object is empty'],
  [405, {}, 'the server answered with status 405'],
  [206, { 'content-encoding': 'gzip' }, 'the server compresses the object: serve it as it is'],
  [206, {}, 'the server does not say which bytes it sends and how many there are'],
  [206, { 'content-range': 'bytes 5-6/9' }, 'the server sends bytes 5-6 of 9 instead of the ones asked for'],
])('an opening that ends with status %i and %j names the address', async (status, headers, why) => {
  const send: Send = async (_url, request) => {
    const named: Readonly<Record<string, string>> = headers;
    request.receive({ url: '', status, header: (name) => named[name] });
  };
  const opening = openObject(
    { ...options, authorization: undefined },
    { send, close: async () => undefined },
    {},
    undefined,
  );
  expect(await opening.catch(messageOf)).toBe(`cannot open http://host/a: ${why}`);
});

it.each([
  ['redirects to an address without encryption', 'http://host/b', 1, /redirects to .*, which is not encrypted/],
  ['sends more bytes than it announced', '', 3, /sends more bytes than it announced/],
])('an opening whose server %s names the address', async (_name, url, length, why) => {
  const send: Send = async (_url, request) => {
    request.receive({ ...head(0, 1), url }).take(new Uint8Array(length));
  };
  const secure = { url: 'https://host/a', shown: 'https://host/a', authorization: undefined };
  const error = await openObject(secure, { send, close: async () => undefined }, {}, undefined).catch(messageOf);
  expect(error).toMatch(/^cannot open https:\/\/host\/a: the server /);
  expect(error).toMatch(why);
});

function rangeIn({ headers }: HttpRequest): [number, number] {
  return /^bytes=(\d+)-(\d+)$/.exec(headers['range']!)!.slice(1).map(Number) as [number, number];
}

function head(start: number, last: number): HttpHead {
  const headers: Record<string, string> = { etag: '"1"', 'content-range': `bytes ${start}-${last}/2000000` };
  return { url: '', status: 206, header: (name) => headers[name] };
}

async function answer(request: HttpRequest): Promise<void> {
  const [start, last] = rangeIn(request);
  request.receive(head(start, last)).take(new Uint8Array(last + 1 - start));
}
