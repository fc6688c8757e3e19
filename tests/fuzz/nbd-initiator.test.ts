/**
 * The NBD initiator against a server that lies at random: bytes of an honest conversation are
 * changed, dropped, doubled or replaced, replies are put together from parts of real ones,
 * connections end anywhere. Whatever comes, every promise settles, nothing is written outside of
 * the memory of a read, and the next connection works.
 */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BlockError } from '../../src/block/errors.js';
import { FarbusError } from '../../src/base/errors.js';
import { HandshakeFeed } from '../../src/protocol/nbd/initiator/handshake-feed.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { negotiate } from '../../src/protocol/nbd/initiator/negotiation.js';
import { PeerError } from '../../src/protocol/nbd/initiator/errors.js';
import { ReplyParser } from '../../src/protocol/nbd/initiator/replies.js';
import { NbdRequest } from '../../src/protocol/nbd/initiator/request.js';
import { buffersOf } from '../../src/base/buffers.js';
import { NbdCommand, ReplyType } from '../../src/protocol/nbd/spec.js';
import { readBytes, writeBytes } from '../../src/conformance/subject.js';
import { FakeServer, allocationId, join, simpleReply, structuredChunk } from '../support/nbd-fake-server.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';
import { u32, u64 } from '../support/numbers.js';

const runs = inputsWanted(500, 20_000);

/** A reply to one of four requests: mostly well formed, rarely right. */
const reply = fc.oneof(
  fc
    .record({
      cookie: fc.nat(5),
      error: fc.constantFrom(0, 0, 5, 28, 108, 4096),
      data: fc.uint8Array({ maxLength: 64 }),
    })
    .map(({ cookie, error, data }) => simpleReply(BigInt(cookie), error, data)),
  fc
    .record({
      cookie: fc.nat(5),
      type: fc.constantFrom(0, 1, 1, 1, 2, 5, 0x8001, 0x8002, 0x8003, 9),
      offset: fc.constantFrom(0, 512, 1000, 1024, 1536, 4096, 2 ** 40),
      length: fc.constantFrom(0, 1, 24, 512, 1024),
      status: fc.boolean(),
      flags: fc.constantFrom(0, 1, 1, 3),
      data: fc.uint8Array({ maxLength: 1100 }),
    })
    .map(({ cookie, type, offset, length, status, flags, data }) => {
      if (type === ReplyType.none) return structuredChunk(BigInt(cookie), type, new Uint8Array(0), flags);
      const at = u64(BigInt(offset));
      if (type === ReplyType.offsetHole) return structuredChunk(BigInt(cookie), type, join(at, u32(length)), flags);
      if (type === ReplyType.offsetData) {
        return structuredChunk(BigInt(cookie), type, join(at, new Uint8Array(length)), flags);
      }
      const rest = status ? join(u32(allocationId), u32(length), u32(3)) : data;
      return structuredChunk(BigInt(cookie), type, rest, flags);
    }),
  fc.uint8Array({ maxLength: 40 }),
);

describe('the parser of replies', () => {
  test(
    'any bytes in any pieces: the same result as in one piece, and nothing is written outside of the read',
    async () => {
      await attack(
        fc.property(
          fc.array(reply, { maxLength: 12 }),
          fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 20 }),
          fc.boolean(),
          (replies, cuts, structured) => {
            const bytes = join(...replies);
            const outcome = (pieces: readonly number[]): unknown[] => {
              const log: unknown[] = [];
              const guarded = new Uint8Array(3 * 1024).fill(0xee);
              const asks = [
                { type: NbdCommand.read, offset: 512, length: 1024, buffers: buffersOf(guarded.subarray(1024, 2048)) },
                { type: NbdCommand.write, offset: 0, length: 512 },
                { type: NbdCommand.blockStatus, offset: 0, length: 4096 },
                { type: NbdCommand.flush, offset: 0, length: 0 },
              ];
              const table = new Map<number, NbdRequest>();
              asks.forEach((ask, index) => {
                const request = new NbdRequest(ask, () => undefined);
                request.cookie = index + 1;
                table.set(index + 1, request);
              });
              const parser = new ReplyParser(
                {
                  find: (high, low) => (high === 0 ? table.get(low) : undefined),
                  finish: (request) => {
                    expect(table.delete(request.cookie)).toBe(true);
                    if (request.type === NbdCommand.read && !request.error)
                      expect(request.coverage.covers(1024)).toBe(true);
                    log.push([request.cookie, request.error?.kind, request.status]);
                  },
                },
                { style: structured ? 'structured' : 'simple', allocationId },
              );
              try {
                for (let at = 0, next = 0; at < bytes.length;) {
                  const count = Math.min(bytes.length - at, pieces[next++ % pieces.length]!);
                  parser.push(bytes.slice(at, at + count));
                  at += count;
                }
              } catch (error) {
                expect(error).toBeInstanceOf(PeerError);
                log.push((error as Error).message);
              }
              expect(guarded.subarray(0, 1024).every((byte) => byte === 0xee)).toBe(true);
              expect(guarded.subarray(2048).every((byte) => byte === 0xee)).toBe(true);
              return log;
            };
            expect(outcome(cuts)).toEqual(outcome([bytes.length || 1]));
          },
        ),
        runs,
      );
    },
    patience,
  );
});

describe('the handshake', () => {
  test(
    'any bytes in any pieces: one agreement or one error',
    async () => {
      const hello = new TextEncoder().encode('NBDMAGICIHAVEOPT');
      const option = fc
        .record({
          code: fc.constantFrom(7, 8, 8, 10, 3),
          type: fc.constantFrom(1, 1, 3, 4, 0x80000001, 0x80000005, 0x80000006, 9),
          body: fc.uint8Array({ maxLength: 30 }),
          length: fc.option(fc.nat(), { freq: 10 }),
        })
        .map(({ code, type, body, length }) =>
          join(u64(0x3e889045565a9n), u32(code), u32(type), u32(length ?? body.length), body),
        );
      await attack(
        fc.property(
          fc.boolean(),
          fc.nat(3),
          fc.array(fc.oneof(option, fc.uint8Array({ maxLength: 150 })), { maxLength: 8 }),
          fc.integer({ min: 1, max: 50 }),
          (greets, flags, options, cut) => {
            const bytes = join(greets ? hello : new Uint8Array(0), new Uint8Array([0, flags]), ...options);
            let ends = 0;
            let sent = 0;
            const feed = new HandshakeFeed(
              negotiate({ exportName: 'x', session: 's' }, (message) => (sent += message.length)),
              () => ends++,
              (error) => {
                ends++;
                expect(error instanceof PeerError || error instanceof FarbusError).toBe(true);
              },
            );
            for (let at = 0; at < bytes.length; at += cut) feed.push(bytes.slice(at, at + cut));
            feed.fail(new PeerError('closed'));
            expect(ends).toBe(1);
            expect(sent).toBeLessThan(1000);
          },
        ),
        runs,
      );
    },
    patience,
  );
});

describe('the whole initiator', () => {
  const damage = fc.record({
    kind: fc.constantFrom('flip', 'drop', 'double', 'insert', 'cut', 'reset'),
    /** Which of the server's messages after the handshake. */
    message: fc.nat(12),
    at: fc.nat(1100),
    value: fc.integer({ min: 1, max: 255 }),
  });

  test(
    'a conversation damaged anywhere: every request settles, and the device works after that',
    async () => {
      await attack(
        fc.asyncProperty(
          fc.array(damage, { minLength: 1, maxLength: 3 }),
          fc.boolean(),
          async (damages, structured) => {
            const server = new FakeServer({ structured, state: 'x', size: 1 << 16 });
            let messages = 0;
            server.answer = (request) => {
              const { connection } = request;
              const send = connection.send.bind(connection);
              connection.send = (...parts) => {
                const here = damages.filter(({ message }) => message === messages);
                messages++;
                let bytes = join(...parts);
                let reset = false;
                for (const { kind, at, value } of here) {
                  const place = at % bytes.length;
                  if (kind === 'flip') bytes[place]! ^= value;
                  else if (kind === 'drop') bytes = join(bytes.subarray(0, place), bytes.subarray(place + 1));
                  else if (kind === 'double') bytes = join(bytes, bytes);
                  else if (kind === 'insert') bytes = join(bytes.subarray(0, place), u32(value), bytes.subarray(place));
                  else if (kind === 'cut') bytes = bytes.slice(0, place);
                  else reset = true;
                }
                send(bytes);
                if (reset) connection.stream.destroy();
              };
              server.serve(request);
              connection.send = send;
            };
            // A message that is cut leaves both sides waiting: the silence ends it.
            const device = await connectNbd(server.dialer(), {
              stallSeconds: 0.04,
              reconnectSeconds: 5,
              assumeSame: true,
            });
            const block = new Uint8Array(1024).fill(7);
            const work: Promise<unknown>[] = [];
            for (let i = 0; i < 3; i++) {
              work.push(readBytes(device, i * 1024, 1024), writeBytes(device, 8192 + i * 1024, block), device.flush());
              work.push(device.extents(0, 4096), device.writeZeroes(4096, 512));
            }
            for (const result of await Promise.allSettled(work)) {
              if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(BlockError);
            }
            server.answer = (request) => server.serve(request);
            await device.flush();
            await readBytes(device, 0, 512);
            await device.close();
          },
        ),
        Math.ceil(runs / 10),
      );
    },
    patience,
  );
});
