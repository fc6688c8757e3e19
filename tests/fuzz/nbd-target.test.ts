/**
 * Hostile clients of the NBD target: options and requests with every field wrong in turn, truncated, repeated, mixed
 * with garbage, in arbitrary pieces. Nothing may throw, grow, hang, reach another connection or a byte that the export
 * does not have.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Buffers } from '../../src/base/buffers.js';
import { SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { exportsOf, infoData, join, metaData, optionBytes, Peer, requestBytes, u32 } from '../unit/nbd-target-peer.js';

const size = 1 << 16;
const runs = process.env['FARBUS_TEST_ALL'] ? 20_000 : 300;
/** Far more than it takes, in ms. */
const patience = 30 * 60_000;
const limits = { maxRequests: 16, maxBytes: 1 << 16, maxOptions: 64 };

/** A disk that sees to it that nobody asks it for what it has not. */
class StrictDevice extends MemoryDevice {
  bad = 0;
  #check(offset: number, length: number): void {
    if (!(Number.isInteger(offset) && offset >= 0 && length > 0 && offset + length <= size)) this.bad++;
  }
  protected override async doRead(offset: number, into: Buffers): Promise<void> {
    this.#check(offset, into.length);
    if (offset % 8192 === 4096) await new Promise((resolve) => setImmediate(resolve));
    await super.doRead(offset, into);
  }
  protected override doWrite(offset: number, from: Buffers): Promise<void> {
    this.#check(offset, from.length);
    return super.doWrite(offset, from);
  }
}

const number32 = fc.oneof(
  fc.nat(0xffff_ffff),
  fc.constantFrom(0, 1, 512, 4096, size, 0x7fff_ffff, 0xffff_ffff, 33 << 20),
);
const name = fc.oneof(fc.constantFrom('', 'disk', 'other'), fc.string({ maxLength: 40, unit: 'binary' }));
const query = fc.oneof(
  fc.constantFrom(
    'base:allocation',
    'base:',
    'farbus:session/01234567-89ab-cdef-0123-456789abcdef',
    'farbus:session/x',
  ),
  fc.string({ maxLength: 20 }),
);
const optionData = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.tuple(name, fc.array(fc.nat(9), { maxLength: 4 })).map(([n, requests]) => infoData(n, requests)),
  fc.tuple(name, fc.array(query, { maxLength: 4 })).map(([n, queries]) => metaData(n, queries)),
);
const option = fc
  .tuple(fc.oneof(fc.nat(12), number32), optionData)
  .map(([number, data]) => ({ kind: 'option', bytes: optionBytes(number, data) }));
const request = fc
  .record({
    command: fc.oneof(fc.nat(9), fc.nat(0xffff)),
    flags: fc.oneof(fc.constant(0), fc.nat(0xffff)),
    cookie: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    offset: fc.oneof(fc.nat(2 * size), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
    length: fc.oneof(
      fc.nat(2 * size),
      fc.nat(20).map((n) => n * 512),
      number32,
    ),
  })
  .map((fields) => ({ kind: 'request', bytes: requestBytes(fields) }));
const write = fc
  .tuple(fc.nat(150), fc.nat(12))
  .map(([at, blocks]) => ({ command: 1, offset: at * 512, data: new Uint8Array(blocks * 512).fill(at) }))
  .map((fields) => ({ kind: 'request', bytes: requestBytes(fields) }));
const garbage = fc.uint8Array({ maxLength: 300 }).map((bytes) => ({ kind: 'garbage', bytes }));

interface Message {
  readonly kind: string;
  readonly bytes: Uint8Array;
}

/** A byte changed, or the end cut off. */
const damage = fc.oneof(
  { weight: 6, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.record({ at: fc.nat(400), value: fc.integer({ min: 1, max: 255 }) }) },
  { weight: 1, arbitrary: fc.record({ keep: fc.nat(100) }) },
);
const damaged = (message: fc.Arbitrary<Message>): fc.Arbitrary<Uint8Array> =>
  fc.tuple(message, damage).map(([{ bytes }, change]) => {
    if (!change) return bytes;
    if ('keep' in change) return bytes.slice(0, change.keep);
    const copy = bytes.slice();
    if (change.at < copy.length) copy[change.at]! ^= change.value;
    return copy;
  });

const pieces = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 });

/** Sends bytes in pieces of these lengths, over and over. */
async function sendInPieces(peer: Peer, bytes: Uint8Array, lengths: readonly number[]): Promise<void> {
  for (let at = 0, i = 0; at < bytes.length && !peer.closed; i++) {
    const length = lengths[i % lengths.length]!;
    await peer.send(bytes.subarray(at, at + length));
    at += length;
  }
}

async function attack(bytes: Uint8Array, lengths: readonly number[], enter: boolean): Promise<void> {
  const device = new StrictDevice(size);
  const exports = exportsOf({ disk: device });
  const pool = new SlabPool(1 << 20);
  const neighbour = new Peer(exports, limits, pool);
  await neighbour.enter('disk');
  const peer = new Peer(exports, limits, pool);
  if (enter) await peer.enter('disk', { contexts: ['base:allocation'] });
  else await peer.read(18);
  await sendInPieces(peer, bytes, lengths);
  // What a peer that is let wait gets is bounded by what it asks for and by its limits.
  expect((await neighbour.ask({ command: 0, offset: 512, length: 1024 })).data.length).toBe(1024);
  peer.stream.close();
  await peer.target.finished;
  expect(device.bad).toBe(0);
  neighbour.target.destroy();
  await neighbour.target.finished;
}

describe('the NBD target, under attack', () => {
  it('survives every handshake', { timeout: patience }, async () => {
    const flags = fc.oneof({ weight: 8, arbitrary: fc.constant(3) }, { weight: 1, arbitrary: number32 });
    const messages = fc.array(damaged(fc.oneof({ weight: 8, arbitrary: option }, request, garbage)), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(flags, messages, pieces, (first, parts, lengths) =>
        attack(join([u32(first), ...parts]), lengths, false),
      ),
      { numRuns: runs },
    );
  });

  it('survives every transmission', { timeout: patience }, async () => {
    const one = fc.oneof({ weight: 8, arbitrary: request }, { weight: 4, arbitrary: write }, garbage, option);
    await fc.assert(
      fc.asyncProperty(fc.array(damaged(one), { maxLength: 40 }), pieces, (parts, lengths) =>
        attack(join(parts), lengths, true),
      ),
      { numRuns: runs },
    );
  });

  it('answers good requests rightly in whatever pieces they come', { timeout: patience }, async () => {
    const good = fc.record({
      write: fc.boolean(),
      block: fc.nat(size / 512 - 17),
      blocks: fc.integer({ min: 1, max: 16 }),
      value: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(good, { minLength: 1, maxLength: 30 }),
        pieces,
        fc.boolean(),
        async (list, lengths, structured) => {
          const peer = new Peer(exportsOf({ disk: new MemoryDevice(size) }), limits);
          await peer.enter('disk', { structured });
          const model = new Uint8Array(size);
          for (const { write: writes, block, blocks, value } of list) {
            const offset = block * 512;
            const length = blocks * 512;
            const data = new Uint8Array(length).fill(value);
            const fields = writes ? { command: 1, offset, data } : { command: 0, offset, length };
            await sendInPieces(peer, requestBytes(fields), lengths);
            const reply = await peer.reply(fields);
            expect(reply.error).toBe(0);
            if (writes) model.set(data, offset);
            else expect(Buffer.compare(reply.data, model.subarray(offset, offset + length))).toBe(0);
          }
          peer.target.destroy();
        },
      ),
      { numRuns: runs },
    );
  });
});
