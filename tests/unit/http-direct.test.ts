/** The HTTP client for plain range requests (src/storage/http/direct). */
import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BodySink } from '../../src/storage/http/exchange.js';
import { fakeServer, rangeAnswer, type FakeServer, type FakeSocket } from '../support/http-answers.js';

const content = randomBytes(100_000);
let server: FakeServer | undefined;

afterEach(() => server?.pool.close());

function start(answer: FakeSocket['answer']): FakeServer {
  return (server = fakeServer(answer));
}

interface ReadOptions {
  readonly mayQueue?: boolean;
  /** Receive in the reader's memory. */
  readonly isPlaced?: boolean;
  readonly headers?: Record<string, string>;
  readonly endBy?: (end: (reason: Error) => void) => void;
}

/** Reads a range. Resolves with its bytes. */
async function read(from: number, to: number, options: ReadOptions = {}): Promise<Buffer> {
  const { mayQueue = true, isPlaced = true, headers = {}, endBy = () => undefined } = options;
  const bytes = Buffer.alloc(to - from);
  const into = buffersOf(bytes);
  let done = 0;
  const sink: BodySink = {
    take: (part) => {
      into.copyFrom(part, done);
      done += part.length;
    },
    memory: (most) => (isPlaced ? bytes.subarray(done, done + most) : undefined),
    arrived: (length) => void (done += length),
  };
  const receive = (): BodySink => sink;
  await server!.send('http://host/a', {
    headers: { range: `bytes=${from}-${to - 1}`, ...headers },
    mayQueue,
    receive,
    endBy,
  });
  return bytes.subarray(0, done);
}

async function expectBytes(from: number, to: number, options?: ReadOptions): Promise<void> {
  expect((await read(from, to, options)).equals(content.subarray(from, to))).toBe(true);
}

const rightly: FakeSocket['answer'] = (socket, ranges) => {
  socket.feed(Buffer.concat(ranges.map((range) => rangeAnswer(content, range))));
};

describe('answers', () => {
  it.each([true, false])('may be split at each byte (in place: %s)', async (isPlaced) => {
    const ranges: [number, number][] = [[10, 90], [5, 6], [300, 420]]; // prettier-ignore
    const { length } = Buffer.concat(ranges.map((range) => rangeAnswer(content, range)));
    for (let split = 1; split < length; split++) {
      const { pool, sockets } = start((socket, asked) => {
        const all = Buffer.concat(asked.map((range) => rangeAnswer(content, range)));
        socket.feed(all.subarray(0, split));
        socket.feed(all.subarray(split));
      });
      await Promise.all(ranges.map(([from, to]) => expectBytes(from, to, { isPlaced })));
      expect(sockets.length).toBe(1);
      pool.close();
    }
  });

  it('longer than the receive buffer arrive in the memory of the reader', async () => {
    start(rightly);
    await Promise.all([expectBytes(0, 90_000), expectBytes(1, 100_000, { mayQueue: false })]);
  });

  it.each([
    ['by chunks', 'Transfer-Encoding: chunked\r\n'],
    ['with two lengths', 'Content-Length: 5\r\n'],
    ['with a line that is no field', 'no field\r\n'],
    ['with a folded line', 'A: b\r\n c: d\r\n'],
    ['with a space before a colon', 'A : b\r\n'],
    ['with a control character', 'A: \x00\r\n'],
    ['with a lone line feed', 'A: b\nC: d\r\n'],
    ['with a head that is too long', `A: ${'b'.repeat(20_000)}\r\n`],
  ])('%s are left to another client', async (_name, more) => {
    const { sockets } = start((socket, [range]) => socket.feed(rangeAnswer(content, range!, more)));
    await expect(read(0, 512)).rejects.toThrow('unusual');
    expect(sockets[0]!.destroyed).toBe(true);
  });

  it.each([
    ['of HTTP/1.0', 'HTTP/1.0 206 OK\r\nContent-Length: 0\r\n\r\n'],
    ['that are not final', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['of another protocol', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['without a length', 'HTTP/1.1 206 OK\r\n\r\n'],
    ['without an end of the head', 'x'.repeat(20_000)],
  ])('%s are left to another client', async (_name, text) => {
    start((socket) => socket.feed(Buffer.from(text)));
    await expect(read(0, 512)).rejects.toThrow('unusual');
  });

  it('that no request has asked for end the connection', async () => {
    const { sockets } = start((socket, ranges) => {
      rightly(socket, ranges);
      socket.feed(rangeAnswer(content, [0, 5]));
    });
    await expectBytes(0, 512);
    expect(sockets[0]!.destroyed).toBe(true);
    await expectBytes(0, 512);
  });
});

describe('requests', () => {
  it('wait behind each other on one connection only if they may', async () => {
    const { sockets } = start(rightly);
    await Promise.all(Array.from({ length: 16 }, (_, at) => expectBytes(at, at + 512)));
    expect(sockets.length).toBe(1);
    await Promise.all(Array.from({ length: 3 }, (_, at) => expectBytes(at, at + 512, { mayQueue: false })));
    expect(sockets.length).toBe(3);
  });

  it('are sent again when the server closes the connection before their answers begin', async () => {
    // One answer for each connection, as with a limit of requests.
    start((socket, [range]) => {
      socket.feed(rangeAnswer(content, range!));
      socket.finish();
    });
    await Promise.all(Array.from({ length: 4 }, (_, at) => expectBytes(at, at + 512)));
  });

  it('fail when their own answer breaks off, and with a server that closes at once', async () => {
    start((socket, [range]) => {
      socket.feed(rangeAnswer(content, range!).subarray(0, 300));
      socket.finish();
    });
    await expect(read(0, 512)).rejects.toThrow('closed');
    start((socket) => socket.finish());
    await expect(read(0, 512)).rejects.toThrow('closed');
  });

  it.each(['', 'Connection: close\r\n'])(
    'do not wait any more behind others that alone are answered %s',
    async (more) => {
      const batches: number[] = [];
      start((socket, ranges) => {
        batches.push(ranges.length);
        socket.feed(rangeAnswer(content, ranges[0]!, more));
        socket.finish();
      });
      await Promise.all([expectBytes(0, 5), expectBytes(1, 6)]);
      batches.length = 0;
      await Promise.all([expectBytes(0, 5), expectBytes(1, 6), expectBytes(2, 7)]);
      expect(batches).toEqual([1, 1, 1]);
    },
  );

  it('with a header that would begin another one are left to another client', async () => {
    const { sockets } = start(rightly);
    await expect(read(0, 512, { headers: { authorization: 'x\r\nhost: other' } })).rejects.toThrow('unusual');
    expect(sockets).toEqual([]);
  });

  it('that are given up leave their memory alone, and those behind them are sent again', async () => {
    const held: [FakeSocket, readonly [number, number][]][] = [];
    let isHeld = true;
    start((socket, ranges) => void (isHeld ? held.push([socket, ranges]) : rightly(socket, ranges)));
    let end: ((reason: Error) => void) | undefined;
    const first = read(0, 60_000, { endBy: (how) => (end = how) }).catch((error: Error) => error.message);
    const second = expectBytes(7, 700);
    while (held.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const [socket, ranges] = held[0]!;
    const answer = rangeAnswer(content, ranges[0]!);
    socket.feed(answer.subarray(0, 500));
    isHeld = false;
    end!(new Error('given up'));
    socket.feed(answer.subarray(500));
    expect(await first).toBe('given up');
    expect(socket.destroyed).toBe(true);
    await second;
  });

  it('that are given up behind an answer that has begun do not begin it again in the middle', async () => {
    let isHeld = true;
    const { sockets } = start((socket, ranges) => {
      if (isHeld) socket.feed(rangeAnswer(content, ranges[0]!).subarray(0, 30_000));
      else rightly(socket, ranges);
    });
    const first = read(0, 60_000).catch((error: Error) => error.message);
    let end: ((reason: Error) => void) | undefined;
    const second = read(7, 700, { endBy: (how) => (end = how) }).catch((error: Error) => error.message);
    const third = expectBytes(9, 900);
    await vi.waitFor(() => expect(sockets[0]!.fed).toBeGreaterThan(0));
    isHeld = false;
    end!(new Error('given up'));
    expect(await second).toBe('given up');
    // The reader asks again for the bytes that are missing.
    expect(await first).toBe('the connection was given up');
    await third;
  });
});
