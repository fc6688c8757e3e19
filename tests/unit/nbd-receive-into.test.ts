/**
 * Long replies that are received straight into the memory of a guest: whatever the server sends and
 * however it arrives, only the read's own bytes are written, and a read that succeeds is complete.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import * as fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { Deadline } from '../../src/base/deadline.js';
import { GuestBuffers, type GuestRange } from '../../src/machine/guest-memory.js';
import { KvmMemory, lowMemoryEnd } from '../../src/machine/engines/kvm/memory.node.js';
import { eager } from '../../src/network/eager/stream.node.js';
import { tcpDialer, unixDialer } from '../../src/network/dial.node.js';
import { dialSocket } from '../../src/network/socket.node.js';
import type { Dialer } from '../../src/network/stream.js';
import { connectNbd, type NbdInitiator } from '../../src/protocol/nbd/initiator/initiator.js';
import { NbdCommand, ReplyFlag, ReplyType } from '../../src/protocol/nbd/spec.js';
import { hasKoffi } from '../support/koffi.js';
import { FakeServer, join, structuredChunk, type FakeRequest } from '../support/nbd-fake-server.js';
import { u64 } from '../support/numbers.js';
import { tempPath } from '../support/temp.js';

const KiB = 1024;
const page = 4096;
const content = Uint8Array.from({ length: 1 << 20 }, (_, index) => (index * 13) ^ (index >> 8) ^ (index >> 16));
const guard = 0xee;

/** `length` bytes between guards, as memory that has addresses. */
function guarded(length: number): { all: Uint8Array; into: Buffers; bytes: Uint8Array } {
  const all = new Uint8Array(length + 2 * page).fill(guard);
  const bytes = all.subarray(page, page + length);
  const plain = buffersOf(bytes);
  const into: Buffers = {
    length,
    copyFrom: (source, at) => {
      if (at + source.length > length) throw new RangeError('beyond the end');
      plain.copyFrom(source, at);
    },
    copyTo: (target, at) => plain.copyTo(target, at),
    zero: (at, count) => plain.zero(at, count),
    slice: (start, end) => plain.slice(start, end),
    stable: () => undefined,
    places: () => undefined,
  };
  return { all, into, bytes };
}

function expectGuards(all: Uint8Array): void {
  expect(all.subarray(0, page).every((byte) => byte === guard)).toBe(true);
  expect(all.subarray(-page).every((byte) => byte === guard)).toBe(true);
}

function served(options: ConstructorParameters<typeof FakeServer>[0] = {}): FakeServer {
  const server = new FakeServer(options);
  server.content.set(content);
  return server;
}

describe('a long reply', () => {
  test('arrives whole, in chunks of any size, interleaved with others, cut anywhere', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(sizes, sizes, fc.boolean(), fc.infiniteStream(fc.nat(100_000)), async (a, b, simple, cuts) => {
        const server = served({ structured: !simple });
        const requests: FakeRequest[] = [];
        const total = (parts: number[]) => parts.reduce((sum, part) => sum + part * KiB, 0);
        server.answer = (request) => {
          requests.push(request);
          if (requests.length < 2) return;
          if (simple) return requests.forEach((one) => server.serve(one));
          const at = [0, 0];
          for (let i = 0; i < Math.max(a.length, b.length); i++) {
            [a, b].forEach((parts, which) => {
              if (i >= parts.length) return;
              const one = requests[which]!;
              const from = at[which]!;
              at[which] = from + parts[i]! * KiB;
              const bytes = content.subarray(one.offset + from, one.offset + at[which]!);
              one.connection.data(one, from, bytes, i === parts.length - 1 ? ReplyFlag.done : 0);
            });
          }
        };
        const device = await connectNbd(server.dialer(() => cuts.next().value as number));
        const [first, second] = [guarded(total(a)), guarded(total(b))];
        await Promise.all([device.read(0, first.into), device.read(1 << 19, second.into)]);
        expect(Buffer.compare(first.bytes, content.subarray(0, total(a)))).toBe(0);
        expect(Buffer.compare(second.bytes, content.subarray(1 << 19, (1 << 19) + total(b)))).toBe(0);
        for (const { all } of [first, second]) expectGuards(all);
        await device.close();
      }),
      { numRuns: 60 },
    );
  });

  test('that is false, short or long is never taken for complete, and touches no other memory', async () => {
    const length = 96 * KiB;
    const places = fc.record({ at: fc.nat(40), to: fc.nat(255), cutAt: fc.nat(length + 60), more: fc.nat(2) });
    await fc.assert(
      fc.asyncProperty(places, fc.infiniteStream(fc.nat(100_000)), async ({ at, to, cutAt, more }, cuts) => {
        const server = served();
        let replies = 0;
        server.answer = (request) => {
          const { connection, cookie, offset, type } = request;
          if (replies++ > 0 || type !== NbdCommand.read) return server.serve(request);
          const data = new Uint8Array(length + more).fill(0x55);
          const bytes = structuredChunk(cookie, ReplyType.offsetData, join(u64(BigInt(offset)), data), ReplyFlag.done);
          if (at < 28) bytes[at] = to;
          connection.send(more === 2 ? bytes.subarray(0, cutAt) : bytes);
          connection.stream.end();
        };
        const device = await connectNbd(server.dialer(() => cuts.next().value as number));
        const { all, into, bytes } = guarded(length);
        const error = await device.read(0, into).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        // The server may say that the read failed, and a whole reply of other data is no fault.
        const whole = bytes.every((byte) => byte === 0x55);
        if (error === undefined) expect(whole || Buffer.compare(bytes, content.subarray(0, length)) === 0).toBe(true);
        expectGuards(all);
        await device.close();
      }),
      { numRuns: 40 },
    );
  });
});

describe.skipIf(!hasKoffi || process.arch !== 'x64')('a KVM guest', () => {
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    vi.unstubAllEnvs();
    for (const close of closing.splice(0).reverse()) await close();
  });

  /** A server on a real socket that passes the bytes of a {@link FakeServer}. */
  async function listening(server: FakeServer, transport: string): Promise<Dialer> {
    const near = server.dialer();
    const tcp: Server = createServer((socket: Socket) => {
      socket.on('error', () => undefined);
      void near.connect(new AbortController().signal).then((stream) => {
        socket.on('data', (chunk) => stream.write([chunk]));
        socket.on('close', () => stream.destroy());
        stream.attach({
          data: (chunk) => void socket.write(Uint8Array.from(chunk)),
          drain: () => undefined,
          closed: () => socket.end(),
        });
      });
    });
    closing.push(() => new Promise<void>((resolve) => tcp.close(() => resolve())));
    const path = tempPath('nbd');
    await new Promise<void>((resolve) =>
      transport === 'tcp' ? tcp.listen(0, '127.0.0.1', resolve) : tcp.listen(path, resolve),
    );
    return transport === 'tcp' ? tcpDialer('127.0.0.1', (tcp.address() as AddressInfo).port) : unixDialer(path);
  }

  async function connected(server: FakeServer, transport = 'tcp'): Promise<NbdInitiator> {
    const device = await connectNbd(await listening(server, transport), { reconnectSeconds: 20 });
    closing.push(() => device.close());
    return device;
  }

  /** Pages on both sides of the hole below 4 GiB, not in order; the first and the last in part. */
  function scattered(memory: KvmMemory, length: number): GuestBuffers {
    const segments: GuestRange[] = [];
    for (let done = 0, i = 0; done < length; i++) {
      const size = Math.min(i === 0 ? 100 : page, length - done);
      const base = i % 2 === 0 ? 0x100000 : 2 ** 32;
      segments.push({ address: base + 2 * page * (300 - i) + (i === 0 ? page - 100 : 0), length: size });
      done += size;
    }
    return new GuestBuffers(memory, segments);
  }

  test.each([
    ['tcp', ''],
    ['unix', ''],
    ['tcp', '1'],
  ])('gets its bytes over %s (FARBUS_NO_EAGER=%j), and no others change', async (transport, off) => {
    vi.stubEnv('FARBUS_NO_EAGER', off);
    const device = await connected(served(), transport);
    const memory = new KvmMemory(lowMemoryEnd + (16 << 20));
    const length = 700 * KiB + 512;
    const into = scattered(memory, length);
    const got = new Uint8Array(length);
    for (const offset of [0, 512, 300 * KiB]) {
      await device.read(offset, into);
      into.copyTo(got, 0);
      expect(Buffer.compare(got, content.subarray(offset, offset + length))).toBe(0);
    }
    // The pages between those of the transfer.
    for (let i = 0; i <= 300; i++) {
      for (const base of [0x100000, 2 ** 32]) {
        expect(memory.view(base + page * (2 * i + 1), page)!.every((byte) => byte === 0)).toBe(true);
      }
    }
  });

  test('whose connection is lost in the middle of a reply gets all of it by the next', async () => {
    const server = served();
    let replies = 0;
    server.answer = (request) => {
      if (request.type !== NbdCommand.read || replies++ > 0) return server.serve(request);
      const data = new Uint8Array(512 * KiB).fill(0x55);
      const bytes = structuredChunk(request.cookie, ReplyType.offsetData, join(u64(0n), data), ReplyFlag.done);
      request.connection.send(bytes.subarray(0, 300 * KiB));
      request.connection.stream.end();
    };
    const device = await connected(server);
    const into = scattered(new KvmMemory(lowMemoryEnd + (16 << 20)), 512 * KiB);
    await device.read(0, into);
    const got = new Uint8Array(512 * KiB);
    into.copyTo(got, 0);
    expect(Buffer.compare(got, content.subarray(0, 512 * KiB))).toBe(0);
    expect(server.connections.length).toBe(2);
  });

  test('that has ended leaves memory that late answers may still be written to', async () => {
    const server = served();
    const late: FakeRequest[] = [];
    let asked: () => void = () => undefined;
    const waiting = new Promise<void>((resolve) => (asked = resolve));
    server.answer = (request) => (late.push(request), asked());
    const device = await connected(server);
    const memory = new KvmMemory(lowMemoryEnd + (16 << 20));
    const reading = device.read(0, scattered(memory, 512 * KiB));
    await waiting;
    memory.discard();
    server.serve(late[0]!);
    await reading;
    server.answer = (request) => server.serve(request);
    await device.read(0, scattered(memory, 512 * KiB));
  });

  test('receives by the whole buffer again when the rest of a long reply is not asked for', async () => {
    const memory = new KvmMemory(lowMemoryEnd + (16 << 20));
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.write(content.subarray(0, 100));
    });
    closing.push(() => new Promise<void>((resolve) => server.close(() => resolve())));
    const path = tempPath('s');
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const stream = eager(await dialSocket({ path }, new Deadline(30_000).signal));
    const sizes: number[] = [];
    let total = 0;
    await new Promise<void>((resolve) => {
      stream.attach({
        data: (chunk) => {
          sizes.push(chunk.length);
          total += chunk.length;
          if (sizes.length === 1) {
            expect(stream.receiveInto!(scattered(memory, 30_000), 0, 30_000)).toBe(0);
            sockets[0]!.end(content.subarray(0, 60_000));
          }
        },
        drain: () => undefined,
        closed: () => resolve(),
      });
    });
    expect(total).toBe(60_100);
    // The first piece of the rest, which would be copied, is small; later ones are not.
    expect(sizes[1]).toBeLessThanOrEqual(page);
    expect(Math.max(...sizes.slice(2))).toBeGreaterThan(page);
    stream.destroy();
  });

  test('receives what has arrived behind a chunk by one call, and no more than it asks for', async () => {
    const sent = content.subarray(0, 80 * KiB);
    const tcp = createServer((socket) => void socket.end(sent));
    closing.push(() => new Promise<void>((resolve) => tcp.close(() => resolve())));
    const path = tempPath('s');
    await new Promise<void>((resolve) => tcp.listen(path, resolve));
    const stream = eager(await dialSocket({ path }, new Deadline(30_000).signal));
    const into = scattered(new KvmMemory(lowMemoryEnd + (16 << 20)), 20_000);
    const counts: number[] = [];
    let chunks = Buffer.alloc(0);
    await new Promise<void>((resolve) => {
      stream.attach({
        data: (chunk) => {
          chunks = Buffer.concat([chunks, chunk]);
          if (counts.length === 0) counts.push(chunk.length, stream.receiveInto!(into, 5, 10_000));
        },
        drain: () => undefined,
        closed: () => resolve(),
      });
    });
    const [first, received] = counts as [number, number];
    const got = new Uint8Array(20_000);
    into.copyTo(got, 0);
    expect(received).toBeLessThanOrEqual(10_000);
    expect(Buffer.compare(got.subarray(5, 5 + received), sent.subarray(first, first + received))).toBe(0);
    expect(
      got.subarray(0, 5).every((byte) => byte === 0) && got.subarray(5 + received).every((byte) => byte === 0),
    ).toBe(true);
    expect(Buffer.compare(chunks, Buffer.concat([sent.subarray(0, first), sent.subarray(first + received)]))).toBe(0);
    // The sender has sent all at once; its first bytes filled the buffer.
    if (first === 64 * KiB) expect(received).toBeGreaterThan(0);
    stream.destroy();
  });
});
