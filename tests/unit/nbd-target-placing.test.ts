/**
 * Long writes that go to the device as their data arrives: for pieces of any size, and wherever the
 * device stops accepting.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Arena, SlabPool } from '../../src/protocol/nbd/target/memory.js';
import { RequestReader, type Request, type RequestSink } from '../../src/protocol/nbd/target/requests.js';
import { NbdCommand, NBD_REQUEST_MAGIC, REQUEST_HEADER_SIZE } from '../../src/protocol/nbd/spec.js';

const page = 4096;

function message(length: number, seed: number): { bytes: Uint8Array; data: Uint8Array } {
  const bytes = new Uint8Array(REQUEST_HEADER_SIZE + length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, NBD_REQUEST_MAGIC);
  view.setUint16(6, NbdCommand.write);
  view.setUint32(24, length);
  const data = bytes.subarray(REQUEST_HEADER_SIZE);
  for (let i = 0; i < length; i++) data[i] = (i * 31 + (i >> 12) + seed) & 0xff;
  return { bytes, data };
}

test('every byte is either placed or kept, in order, and once', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ pages: fc.integer({ min: 1, max: 12 }), taken: fc.nat(14) }), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.array(fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 6 * page })), {
        minLength: 1,
        maxLength: 40,
      }),
      fc.constantFrom(0, 100, page),
      (writes, cuts, headroom) => {
        const arena = new Arena(new SlabPool());
        const got: Uint8Array[] = [];
        let placed: Uint8Array[] = [];
        let left = 0;
        const next = [...writes];
        const sink: RequestSink = {
          hasRoom: () => true,
          begin: (request, present) => {
            left = next.shift()!.taken;
            placed = [];
            request.payload = arena.take(request.payloadLength);
            // Old bytes in the memory must not be taken for data.
            request.payload.slab.bytes.fill(0xee, request.payload.start, request.payload.end);
            request.placing = true;
            if (present) expect(present.length).toBe(request.payloadLength);
            if (!present || left < 13) return false;
            // Of the payloads that have arrived completely, take some directly from the chunk.
            got.push(present.slice());
            arena.release(request.payload);
            return true;
          },
          place: (request, bytes) => {
            expect(bytes.length % page).toBe(0);
            expect(request.placed).toBe(placed.reduce((sum, part) => sum + part.length, 0));
            if (bytes.length > left * page) return false;
            left -= bytes.length / page;
            placed.push(bytes.slice());
            return true;
          },
          complete: ({ payload, placed: count }: Request) => {
            const kept = payload!.slab.bytes.slice(payload!.start + count, payload!.end);
            got.push(Buffer.concat([...placed, kept]));
            arena.release(payload!);
          },
          broken: (reason) => expect.fail(reason),
        };
        const messages = writes.map(({ pages }, i) => message(pages * page, i));
        const all = Buffer.concat(messages.map(({ bytes }) => bytes));
        const reader = new RequestReader(sink, false);
        for (let at = 0, i = 0; at < all.length; i++) {
          const part = all.subarray(at, at + cuts[i % cuts.length]!);
          at += part.length;
          // Bytes before the headroom must not be changed.
          const buffer = new Uint8Array(page + part.length).fill(0xdd);
          buffer.set(part, page);
          reader.receive(buffer.subarray(page), 0, headroom);
          expect(buffer.subarray(0, page - headroom).every((byte) => byte === 0xdd)).toBe(true);
        }
        expect(got.map((bytes, i) => Buffer.compare(bytes, messages[i]!.data))).toEqual(writes.map(() => 0));
        expect(arena.inUse).toBe(0);
      },
    ),
    { numRuns: 100 },
  );
});
