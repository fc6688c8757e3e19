/**
 * dd sessions with a far side that prints in between, falls short, fails and breaks off at any
 * time, in arbitrary pieces: what succeeds is right to the byte, what fails is a BlockError, and
 * everything settles.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { BlockError } from '../../src/block/errors.js';
import { connectDd } from '../../src/protocol/dd/device.js';
import { FakeShell, type Mischief } from '../support/dd-fake-shell.js';
import { streamPair } from '../support/stream-pair.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';

const runs = inputsWanted(40, 1000);
const size = 64 << 10;
const stripes = 8;

const mischief = fc.oneof(
  { weight: 20, arbitrary: fc.constant<Mischief>('none') },
  {
    weight: 10,
    arbitrary: fc.constantFrom<Mischief>('junk-before', 'junk-within', 'junk-after', 'short', 'fail'),
  },
  // Each costs the pause before the next connection.
  { weight: 1, arbitrary: fc.constantFrom<Mischief>('cut', 'cut-after') },
);
const request = fc.record({
  op: fc.constantFrom('read', 'write', 'zero', 'flush'),
  at: fc.nat(15),
  length: fc.integer({ min: 1, max: 8 }),
  fill: fc.nat(255),
});

/** Fails unless all bytes that are sure are the model's. */
function same(got: Uint8Array, model: Uint8Array, unsure: Uint8Array): void {
  const at = got.findIndex((byte, i) => !unsure[i] && byte !== model[i]);
  if (at >= 0) expect.fail(`byte ${at} is ${got[at]} instead of ${model[at]}`);
}

describe('dd sessions', () => {
  it(
    'survive any mixture of faults',
    async () => {
      await attack(
        fc.asyncProperty(
          fc.array(mischief, { minLength: 1, maxLength: 40 }),
          fc.array(fc.array(request, { minLength: 1, maxLength: 8 }), { minLength: stripes, maxLength: stripes }),
          fc.integer({ min: 30, max: 5000 }),
          fc.integer({ min: 1, max: 3 }),
          async (plan, work, piece, sessions) => {
            const disk = new Uint8Array(size).map((_, i) => (i * 7) % 251);
            let step = 0;
            // In the end it works, or nothing would ever settle.
            const next = (): Mischief => plan[step++] ?? 'none';
            const run = async () => {
              const [near, far] = streamPair((length) => Math.min(length, piece));
              new FakeShell(far, disk, next);
              return near;
            };
            const device = await connectDd({ address: 'fake', run }, { path: '/x', sessions });
            const model = disk.slice();
            const unsure = new Uint8Array(size);
            const each = size / stripes;
            await Promise.all(
              work.map(async (list, stripe) => {
                for (const { op, at, length: blocks, fill } of list) {
                  const length = Math.min(blocks * 512, each - at * 512);
                  const offset = stripe * each + at * 512;
                  const bytes = new Uint8Array(length).fill(fill);
                  try {
                    if (op === 'read') {
                      await device.read(offset, buffersOf(bytes));
                      same(bytes, model.subarray(offset), unsure.subarray(offset));
                    } else if (op === 'flush') {
                      await device.flush();
                    } else {
                      if (op === 'zero') bytes.fill(0);
                      unsure.fill(1, offset, offset + length);
                      await (op === 'zero'
                        ? device.writeZeroes(offset, length)
                        : device.write(offset, buffersOf(bytes)));
                      unsure.fill(0, offset, offset + length);
                      model.set(bytes, offset);
                    }
                  } catch (error) {
                    if (!(error instanceof BlockError)) throw error;
                    expect(error.kind).toBe('io');
                  }
                }
              }),
            );
            await device.close();
            same(disk, model, unsure);
          },
        ),
        runs,
      );
    },
    patience,
  );

  it(
    'survive a server that sends anything',
    async () => {
      await attack(
        fc.asyncProperty(
          fc.array(
            fc.oneof(fc.uint8Array({ maxLength: 2000 }), fc.constantFrom('ok', 'error 1 x', 'sync 0 idle', 'gone', '')),
            {
              maxLength: 8,
            },
          ),
          async (garbage) => {
            let marker = '';
            const run = async () => {
              const [near, far] = streamPair();
              const disk = new Uint8Array(size);
              const say = far.write.bind(far);
              new FakeShell(far, disk, () => {
                for (const [id, part] of garbage.entries()) {
                  say([typeof part === 'string' ? Buffer.from(`\n${marker} ${id} ${part}\n`) : part]);
                }
                return 'cut-after';
              });
              far.write = (chunks) => {
                marker ||= /^(?:Welcome\n\n)(\w+) begin/.exec(Buffer.concat(chunks).toString('latin1'))?.[1] ?? '';
                return say(chunks);
              };
              return near;
            };
            const device = await connectDd({ address: 'fake', run }, { path: '/x', sessions: 1, reconnectSeconds: 0 });
            const results = await Promise.allSettled([
              device.read(0, buffersOf(new Uint8Array(4096))),
              device.write(8192, buffersOf(new Uint8Array(4096))),
              device.flush(),
            ]);
            for (const result of results) {
              if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(BlockError);
            }
            await device.close();
          },
        ),
        runs,
      );
    },
    patience,
  );
});
