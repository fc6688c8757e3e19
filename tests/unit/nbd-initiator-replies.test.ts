/**
 * Replies in every form: correct ones are accepted in any order and in pieces of any size; false
 * ones end the connection.
 */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockErrorKind } from '../../src/block/errors.js';
import { Coverage } from '../../src/protocol/nbd/initiator/coverage.js';
import { extentsOf } from '../../src/protocol/nbd/initiator/extents.js';
import { connectNbd, type NbdInitiator } from '../../src/protocol/nbd/initiator/initiator.js';
import { NbdCommand, NbdError, ReplyFlag, ReplyType } from '../../src/protocol/nbd/spec.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import {
  FakeServer,
  allocationId,
  join,
  structuredChunk,
  type Answer,
  type FakeRequest,
  type FakeTerms,
} from '../support/nbd-fake-server.js';
import { u16, u32, u64 } from '../support/numbers.js';

const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => (index * 13) ^ (index >> 8));

async function connected(answer: Answer, terms: Partial<FakeTerms> = {}, options = {}) {
  const server = new FakeServer(terms);
  server.answer = answer;
  const device = await connectNbd(server.dialer(), options);
  return { server, device };
}

/** An error chunk: error value, text, and the bytes that follow the text. */
function error(value: number, text = '', rest: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return join(u32(value), u16(bytes.length), bytes, rest);
}

describe('reads', () => {
  test('pieces in any order, with holes between, interleaved with those of others', async () => {
    const bytes = pattern(8192);
    bytes.fill(0, 2048, 4096);
    const order = fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(order, order, fc.integer({ min: 1, max: 3000 }), async (first, second, cut) => {
        const server = new FakeServer();
        const requests: FakeRequest[] = [];
        const piece = (request: FakeRequest, index: number, flags: number): void => {
          const at = index * 1024;
          if (at >= 2048 && at < 4096) {
            const hole = join(u64(BigInt(request.offset + at)), u32(1024));
            request.connection.chunk(request, ReplyType.offsetHole, hole, flags);
          } else {
            request.connection.data(request, at, bytes.subarray(at, at + 1024), flags);
          }
        };
        server.answer = (request) => {
          requests.push(request);
          if (requests.length < 2) return;
          const [one, two] = requests as [FakeRequest, FakeRequest];
          for (let i = 0; i < 8; i++) {
            piece(one, first[i]!, 0);
            piece(two, second[i]!, i === 7 ? ReplyFlag.done : 0);
          }
          one.connection.chunk(one, ReplyType.none);
        };
        const device = await connectNbd(server.dialer(() => cut));
        const both = await Promise.all([readBytes(device, 0, 8192), readBytes(device, 65536, 8192)]);
        expect(both).toEqual([bytes, bytes]);
        await device.close();
      }),
      { numRuns: 40 },
    );
  });

  const values: [number, BlockErrorKind][] = [
    [NbdError.perm, 'read-only'],
    [NbdError.io, 'io'],
    [NbdError.noMemory, 'io'],
    [NbdError.invalid, 'range'],
    [NbdError.noSpace, 'no-space'],
    [NbdError.overflow, 'range'],
    [NbdError.notSupported, 'unsupported'],
    [12345, 'io'],
  ];
  test.each(values)('error %i is %s, and the connection continues', async (value, kind) => {
    let kindOfReply = 0;
    const { device, server } = await connected((request) => {
      const { connection } = request;
      kindOfReply++;
      if (kindOfReply === 1) connection.simple(request, value);
      else if (kindOfReply === 2) connection.chunk(request, ReplyType.error, error(value, 'worn\nout'));
      else if (kindOfReply === 3) {
        connection.data(request, 0, pattern(512), 0);
        connection.chunk(request, ReplyType.errorOffset, error(value, '', u64(BigInt(request.offset + 100))), 0);
        connection.data(request, 512, pattern(512), 0);
        connection.chunk(request, ReplyType.none);
      } else if (kindOfReply === 4) connection.chunk(request, (1 << 15) + 99, error(value, 'new', pattern(50)));
      else server.serve(request);
    });
    for (let i = 0; i < 4; i++) await expectKind(kind, readBytes(device, 1024, 1024));
    await expect(readBytes(device, 0, 512)).resolves.toEqual(new Uint8Array(512));
    expect(server.connections.length).toBe(1);
    await device.close();
  });

  test("an error carries the server's text, made harmless", async () => {
    const { device } = await connected((request) => {
      request.connection.chunk(request, ReplyType.error, error(NbdError.io, 'sector\u0000\u001b[2J gone'));
    });
    await expect(readBytes(device, 0, 512)).rejects.toThrow('the server says: sector [2J gone');
    await device.close();
  });
});

describe('false replies end the connection, and the request is run again on the next', () => {
  const zeroes = (length: number): Uint8Array => new Uint8Array(length);
  const read: [string, (request: FakeRequest) => void][] = [
    ['garbage', ({ connection }) => connection.send(pattern(100))],
    ['a wrong cookie', (r) => r.connection.simple({ ...r, cookie: r.cookie + 1n })],
    ['the cookie of another connection', (r) => r.connection.simple({ ...r, cookie: r.cookie + (1n << 32n) })],
    ['a simple reply with data', (r) => r.connection.simple(r, 0, zeroes(1024))],
    ['success without data', (r) => r.connection.chunk(r, ReplyType.none)],
    ['too little data', (r) => r.connection.data(r, 0, zeroes(1023))],
    ['too much data', (r) => r.connection.data(r, 0, zeroes(1025))],
    ['data before the range', (r) => r.connection.data(r, -1, zeroes(1024))],
    ['data after the range', (r) => r.connection.data(r, 1024, zeroes(1))],
    [
      'data at an offset beyond 2^63',
      (r) => r.connection.chunk(r, ReplyType.offsetData, join(u64(0xffff_ffff_ffff_fff0n), zeroes(8))),
    ],
    [
      'the same data twice',
      (r) => {
        r.connection.data(r, 0, zeroes(1024), 0);
        r.connection.data(r, 0, zeroes(1024));
      },
    ],
    [
      'overlapping data',
      (r) => {
        r.connection.data(r, 0, zeroes(600), 0);
        r.connection.data(r, 500, zeroes(524));
      },
    ],
    [
      'data and a hole at one place',
      (r) => {
        r.connection.data(r, 512, zeroes(512), 0);
        r.connection.chunk(r, ReplyType.offsetHole, join(u64(BigInt(r.offset)), u32(1024)));
      },
    ],
    ['an empty data chunk', (r) => r.connection.chunk(r, ReplyType.offsetData, u64(BigInt(r.offset)))],
    ['an empty hole', (r) => r.connection.chunk(r, ReplyType.offsetHole, join(u64(BigInt(r.offset)), u32(0)))],
    ['a hole of a wrong length', (r) => r.connection.chunk(r, ReplyType.offsetHole, zeroes(13))],
    ['an empty chunk that is not the last', (r) => r.connection.chunk(r, ReplyType.none, zeroes(0), 0)],
    ['an empty chunk that is not empty', (r) => r.connection.chunk(r, ReplyType.none, zeroes(1))],
    ['block status for a read', (r) => r.connection.chunk(r, ReplyType.blockStatus, zeroes(12))],
    ['an unknown type', (r) => r.connection.chunk(r, 77, zeroes(12))],
    ['an error without an error', (r) => r.connection.chunk(r, ReplyType.error, error(0))],
    ['a short error', (r) => r.connection.chunk(r, ReplyType.error, zeroes(5))],
    [
      "an error's text beyond its chunk",
      (r) => r.connection.chunk(r, ReplyType.error, join(u32(5), u16(9), zeroes(3))),
    ],
    ['an error of great length', (r) => r.connection.chunk(r, ReplyType.error, error(5, '', zeroes(9000)))],
    [
      'a gigantic data chunk',
      (r) => {
        const chunk = structuredChunk(r.cookie, ReplyType.offsetData, join(u64(BigInt(r.offset)), zeroes(8)), 1);
        new DataView(chunk.buffer).setUint32(16, 0xffff_ffff);
        r.connection.send(chunk);
      },
    ],
    [
      'a truncated reply',
      (r) => {
        const chunk = structuredChunk(r.cookie, ReplyType.offsetData, join(u64(BigInt(r.offset)), zeroes(1024)), 1);
        r.connection.send(chunk.subarray(0, 500));
        r.connection.stream.end();
      },
    ],
    ['a reset', (r) => r.connection.stream.destroy()],
    [
      'thousands of little pieces',
      (r) => {
        for (let at = 0; at < 65536; at += 2) r.connection.data(r, at, zeroes(1), 0);
      },
    ],
    ['NBD_ESHUTDOWN', (r) => r.connection.simple(r, NbdError.shutdown)],
  ];
  test.each(read)('%s', async (what, lie) => {
    const length = what.startsWith('thousands') ? 65536 : 1024;
    const { server, device } = await connected((request) => {
      if (server.connections.length === 1) lie(request);
      else server.serve(request);
    });
    const bytes = pattern(length);
    server.content.set(bytes, 4096);
    await expect(readBytes(device, 4096, length)).resolves.toEqual(bytes);
    expect(server.connections.length).toBe(2);
    await device.close();
  });

  test('a structured reply without agreement', async () => {
    const { server, device } = await connected(
      (request) => {
        if (server.connections.length === 1) request.connection.data(request, 0, zeroes(512));
        else server.serve(request);
      },
      { structured: false },
    );
    await readBytes(device, 0, 512);
    expect(server.connections.length).toBe(2);
    await device.close();
  });

  test('a second reply to one request', async () => {
    const { server, device } = await connected((request) => {
      server.serve(request);
      if (server.connections.length === 1) server.serve(request);
    });
    await readBytes(device, 0, 512);
    await readBytes(device, 512, 512);
    expect(server.connections.length).toBe(2);
    await device.close();
  });

  const status: [string, (request: FakeRequest) => void][] = [
    ['a simple reply', (r) => r.connection.simple(r)],
    ['no status', (r) => r.connection.chunk(r, ReplyType.none)],
    [
      'an extent of no bytes',
      (r) => r.connection.chunk(r, ReplyType.blockStatus, join(u32(allocationId), u32(0), u32(0))),
    ],
    ['half an extent', (r) => r.connection.chunk(r, ReplyType.blockStatus, join(u32(allocationId), u32(9)))],
    ['no extents', (r) => r.connection.chunk(r, ReplyType.blockStatus, u32(allocationId))],
    [
      'status twice',
      (r) => {
        r.connection.chunk(r, ReplyType.blockStatus, join(u32(allocationId), u32(512), u32(0)), 0);
        r.connection.chunk(r, ReplyType.blockStatus, join(u32(allocationId), u32(512), u32(0)));
      },
    ],
    [
      'status of another context only',
      (r) => r.connection.chunk(r, ReplyType.blockStatus, join(u32(99), u32(9), u32(0))),
    ],
    ['data', (r) => r.connection.data(r, 0, zeroes(512))],
  ];
  test.each(status)('block status: %s', async (_what, lie) => {
    const { server, device } = await connected((request) => {
      if (server.connections.length === 1) lie(request);
      else server.serve(request);
    });
    const extents = await device.extents(0, 4096);
    expect(extents).toEqual([{ offset: 0, length: 4096, hole: false, zero: false }]);
    expect(server.connections.length).toBe(2);
    await device.close();
  });
});

describe('requests', () => {
  async function asked(use: (device: NbdInitiator) => Promise<unknown>, terms: Partial<FakeTerms> = {}) {
    const server = new FakeServer(terms);
    const device = await connectNbd(server.dialer());
    await use(device);
    await device.close();
    return server.requests.map(({ type, flags, offset, length }) => [type, flags, offset, length]);
  }

  test('flags of each command', async () => {
    const bytes = buffersOf(new Uint8Array(512));
    const got = await asked(async (device) => {
      await device.write(512, bytes, { fua: true });
      await device.trim(0, 1024, { fua: true });
      await device.writeZeroes(0, 1024, { noHole: true, fastOnly: true, fua: true });
      await device.writeZeroes(0, 512);
      await device.flush();
      await device.extents(512, 1024);
    });
    expect(got).toEqual([
      [NbdCommand.write, 1, 512, 512],
      [NbdCommand.trim, 1, 0, 1024],
      [NbdCommand.writeZeroes, 1 + 2 + 16, 0, 1024],
      [NbdCommand.writeZeroes, 0, 0, 512],
      [NbdCommand.flush, 0, 0, 0],
      [NbdCommand.blockStatus, 0, 512, 1024],
    ]);
  });

  test('no command that the server does not offer', async () => {
    const got = await asked(
      async (device) => {
        await device.write(0, buffersOf(new Uint8Array(512)), { fua: true });
        await device.trim(0, 512);
        await device.writeZeroes(0, 512, { noHole: true });
        await expectKind('unsupported', device.writeZeroes(0, 512, { fastOnly: true }));
        await device.flush();
        await device.extents(0, 512);
      },
      { flags: 1, allocation: false },
    );
    expect(got).toEqual([
      [NbdCommand.write, 0, 0, 512],
      [NbdCommand.write, 0, 0, 512],
    ]);
  });

  test('long ranges in parts, and in shorter ones if the server wants that', async () => {
    const server = new FakeServer({ size: 2 ** 40, blockSizes: [4096, 4096, 1 << 20] });
    const device = await connectNbd(server.dialer());
    await device.trim(4096, 3 * 2 ** 30);
    expect(server.requests.map(({ length }) => length)).toEqual([2 ** 30, 2 ** 30, 2 ** 30]);
    server.requests.length = 0;
    server.answer = (request) => request.connection.simple(request, request.length > 1 << 20 ? NbdError.invalid : 0);
    await device.writeZeroes(2 ** 39, 3 << 20);
    expect(server.requests.map(({ offset, length }) => [offset - 2 ** 39, length])).toEqual([
      [0, 3 << 20],
      [0, 1 << 20],
      [1 << 20, 1 << 20],
      [2 << 20, 1 << 20],
    ]);
    server.answer = (request) => request.connection.simple(request, NbdError.invalid);
    await expectKind('range', device.trim(0, 4096));
    await device.close();
  });

  test('requests of one round of the event loop leave in one write', async () => {
    const server = new FakeServer();
    const pieces: number[] = [];
    const device = await connectNbd(
      server.dialer((length) => {
        pieces.push(length);
        return length;
      }),
    );
    pieces.length = 0;
    const work = Array.from({ length: 20 }, (_, index) => writeBytes(device, index * 4096, pattern(4096)));
    await Promise.all(work);
    expect(pieces[0]).toBe(20 * (28 + 4096));
    expect(server.content.subarray(0, 4096)).toEqual(pattern(4096));
    expect(server.content.subarray(19 * 4096, 20 * 4096)).toEqual(pattern(4096));
    await device.close();
  });

  test('more concurrent requests than the window allows, and long payloads', async () => {
    const server = new FakeServer({ size: 16 << 20 });
    let most = 0;
    const waiting: FakeRequest[] = [];
    server.answer = (request) => {
      waiting.push(request);
      most = Math.max(most, waiting.length);
      setImmediate(() => server.serve(waiting.shift()!));
    };
    const device = await connectNbd(server.dialer());
    await Promise.all(Array.from({ length: 2000 }, (_, index) => readBytes(device, index * 512, 512)));
    expect(most).toBeLessThanOrEqual(256);
    const bytes = pattern(16 << 20);
    await Promise.all(
      Array.from({ length: 16 }, (_, index) =>
        writeBytes(device, index << 20, bytes.subarray(index << 20, (index + 1) << 20)),
      ),
    );
    expect(Buffer.compare(server.content, bytes)).toBe(0);
    await device.close();
  });
});

test('coverage is complete exactly when each byte was taken once', () => {
  const pieces = fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 12 })), { maxLength: 40 });
  fc.assert(
    fc.property(pieces, (list) => {
      const coverage = new Coverage();
      const taken = new Uint8Array(80);
      for (const [start, length] of list) {
        const twice = taken.subarray(start, start + length).some((byte) => byte === 1);
        if (twice) {
          expect(() => coverage.claim(start, start + length)).toThrow('twice');
        } else {
          coverage.claim(start, start + length);
          taken.fill(1, start, start + length);
        }
        const end = taken.lastIndexOf(1) + 1;
        expect(coverage.covers(end)).toBe(taken.subarray(0, end).every((byte) => byte === 1));
        expect(coverage.covers(end + 1)).toBe(false);
      }
    }),
  );
});

test('extents are whole blocks, in order, and claim only what the server said of every byte', () => {
  const runs = fc.array(fc.record({ length: fc.integer({ min: 1, max: 40 }), flags: fc.nat(3) }), {
    minLength: 1,
    maxLength: 30,
  });
  fc.assert(
    fc.property(
      runs,
      fc.nat(4),
      fc.integer({ min: 1, max: 20 }),
      fc.constantFrom(1, 4, 16),
      (list, start, count, block) => {
        const offset = start * block;
        const length = count * block;
        const flags: number[] = list.flatMap((run) => Array<number>(run.length).fill(run.flags));
        const extents = extentsOf(list, offset, length, block);
        let at = offset;
        for (const extent of extents) {
          expect(extent.offset).toBe(at);
          expect(extent.length).toBeGreaterThan(0);
          expect(extent.length % block).toBe(0);
          for (let byte = at - offset; byte < at - offset + extent.length; byte++) {
            if (extent.hole) expect((flags[byte] ?? 0) & 1).toBe(1);
            if (extent.zero) expect((flags[byte] ?? 0) & 2).toBe(2);
          }
          at += extent.length;
        }
        expect(at).toBeLessThanOrEqual(offset + length);
        const known = Math.min(flags.length, length);
        expect(at).toBeGreaterThanOrEqual(offset + known - (known % block));
      },
    ),
  );
});
