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
import { diskSize, freshDisk, makeRequests, work } from './harness/faulty-disk.js';

const runs = inputsWanted(40, 1000);

const mischief = fc.oneof(
  { weight: 20, arbitrary: fc.constant<Mischief>('none') },
  {
    weight: 10,
    arbitrary: fc.constantFrom<Mischief>('junk-before', 'junk-within', 'junk-after', 'short', 'fail'),
  },
  // Each costs the pause before the next connection.
  { weight: 1, arbitrary: fc.constantFrom<Mischief>('cut', 'cut-after') },
);
describe('dd sessions', () => {
  it(
    'survive any mixture of faults',
    async () => {
      await attack(
        fc.asyncProperty(
          fc.array(mischief, { minLength: 1, maxLength: 40 }),
          work(['read', 'write', 'zero', 'flush'], 8),
          fc.integer({ min: 30, max: 5000 }),
          fc.integer({ min: 1, max: 3 }),
          async (plan, lists, piece, sessions) => {
            const disk = freshDisk();
            let step = 0;
            // In the end it works, or nothing would ever settle.
            const next = (): Mischief => plan[step++] ?? 'none';
            const run = async () => {
              const [near, far] = streamPair((length) => Math.min(length, piece));
              new FakeShell(far, disk, next);
              return near;
            };
            const device = await connectDd({ address: 'fake', run }, { path: '/x', sessions });
            await makeRequests(device, disk, lists);
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
              const disk = new Uint8Array(diskSize);
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
