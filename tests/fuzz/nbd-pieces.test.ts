/** Good requests to the NBD target in arbitrary pieces. Hostile ones: serve.test.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/storage/memory.js';
import { exportsOf, Peer, requestBytes } from '../unit/nbd-target-peer.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';

const size = 1 << 16;
const runs = inputsWanted(300, 20_000);
const limits = { maxRequests: 16, maxBytes: 1 << 16, maxOptions: 64 };

const pieces = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 });

/** Sends bytes in pieces of these lengths, over and over. */
async function sendInPieces(peer: Peer, bytes: Uint8Array, lengths: readonly number[]): Promise<void> {
  for (let at = 0, i = 0; at < bytes.length && !peer.closed; i++) {
    const length = lengths[i % lengths.length]!;
    await peer.send(bytes.subarray(at, at + length));
    at += length;
  }
}

describe('the NBD target', () => {
  it('answers good requests correctly in any pieces', { timeout: patience }, async () => {
    const good = fc.record({
      write: fc.boolean(),
      block: fc.nat(size / 512 - 17),
      blocks: fc.integer({ min: 1, max: 16 }),
      value: fc.nat(255),
    });
    await attack(
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
      runs,
    );
  });
});
