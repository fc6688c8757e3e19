/**
 * SFTP against servers that answer in any order, fall short, fail, break the protocol and break
 * off, in arbitrary pieces: what succeeds is right to the byte, what fails is a BlockError, and
 * everything settles.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { BlockError } from '../../src/block/errors.js';
import { connectSftp } from '../../src/protocol/sftp/device.js';
import { FieldReader, PacketReader, PacketWriter, SftpProtocolError } from '../../src/protocol/sftp/wire.js';
import { FakeSftp, type SftpMischief } from '../support/sftp-fake-server.js';
import { streamPair } from '../support/stream-pair.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';
import { diskSize, freshDisk, makeRequests, work } from './harness/faulty-disk.js';

const runs = inputsWanted(40, 1000);

const mischief = fc.oneof(
  { weight: 20, arbitrary: fc.constant<SftpMischief>('none') },
  { weight: 10, arbitrary: fc.constantFrom<SftpMischief>('short', 'late', 'fail') },
  // Each costs the pause before the next connection.
  { weight: 1, arbitrary: fc.constantFrom<SftpMischief>('cut', 'cut-after', 'wrong-id', 'too-much') },
);
const options = { address: 'fake', path: '/disk', kill: () => Promise.resolve() };

describe('SFTP', () => {
  it(
    'survives any mixture of faults',
    async () => {
      await attack(
        fc.asyncProperty(
          fc.array(mischief, { minLength: 1, maxLength: 60 }),
          work(['read', 'write', 'flush'], 16),
          fc.integer({ min: 20, max: 5000 }),
          async (plan, lists, piece) => {
            const disk = freshDisk();
            let step = 0;
            const next = (): SftpMischief => plan[step++] ?? 'none';
            const dial = async () => {
              const [near, far] = streamPair((length) => Math.min(length, piece));
              new FakeSftp(far, disk, next);
              return near;
            };
            const device = await connectSftp(dial, options);
            expect(device.info.can.flush).toBe(true);
            await makeRequests(device, disk, lists);
          },
        ),
        runs,
      );
    },
    patience,
  );

  it(
    'a server that sends random bytes at any time is dropped, and nothing else happens',
    async () => {
      await attack(
        fc.asyncProperty(
          fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }),
          fc.nat(5),
          async (garbage, when) => {
            const dial = async () => {
              const [near, far] = streamPair();
              let step = 0;
              new FakeSftp(far, new Uint8Array(diskSize), () => {
                if (step++ < when) return 'none';
                for (const bytes of garbage) far.write([bytes]);
                return 'cut-after';
              });
              return near;
            };
            const device = await connectSftp(dial, { ...options, reconnectSeconds: 0 });
            const results = await Promise.allSettled([
              ...Array.from({ length: 4 }, (_, i) => device.read(i * 4096, buffersOf(new Uint8Array(4096)))),
              device.write(8192, buffersOf(new Uint8Array(4096))),
              device.flush(),
            ]);
            for (const result of results)
              if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(BlockError);
            await device.close();
          },
        ),
        runs,
      );
    },
    patience,
  );

  it('a server that sends random bytes instead of a greeting is refused', async () => {
    await attack(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (garbage) => {
        const dial = async () => {
          const [near, far] = streamPair();
          far.attach({
            data: () => (far.write([garbage]), far.end()),
            drain: () => undefined,
            closed: () => undefined,
          });
          return near;
        };
        await expect(connectSftp(dial, options)).rejects.toThrow(/cannot use fake|ended at once/);
      }),
      runs,
    );
  });
});

describe('SFTP packets', () => {
  it('are found in any pieces', async () => {
    const data = fc.record({ id: fc.nat(0xffff_ffff), bytes: fc.uint8Array({ maxLength: 500 }), isData: fc.boolean() });
    await attack(
      fc.property(fc.array(data, { maxLength: 10 }), fc.integer({ min: 1, max: 200 }), (packets, piece) => {
        const got: { id: number; bytes: Uint8Array; isData: boolean }[] = [];
        let filling = new Uint8Array(0);
        const reader = new PacketReader({
          packet: (_type, fields) => got.push({ id: fields.u32(), bytes: fields.bytes().slice(), isData: false }),
          dataStart: (_id, length) => (filling = new Uint8Array(length)),
          data: (_id, bytes, at) => filling.set(bytes, at),
          dataEnd: (id) => got.push({ id, bytes: filling, isData: true }),
        });
        const all = Buffer.concat(
          packets.map(({ id, bytes, isData }) => new PacketWriter(isData ? 103 : 201).u32(id).bytes(bytes).done()),
        );
        for (let at = 0; at < all.length; at += piece) reader.feed(all.subarray(at, at + piece));
        expect(got).toEqual(packets);
      }),
      runs,
    );
  });

  it('that are malformed break the protocol, and no memory is kept for them', async () => {
    await attack(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 10 }), (chunks) => {
        const reader = new PacketReader({
          packet: (_type, fields) => void fields.left,
          dataStart: () => undefined,
          data: () => undefined,
          dataEnd: () => undefined,
        });
        try {
          for (const chunk of chunks) reader.feed(chunk);
        } catch (error) {
          expect(error).toBeInstanceOf(SftpProtocolError);
        }
      }),
      300,
    );
  });

  it('numbers are written and read alike', async () => {
    await attack(
      fc.property(fc.nat(0xffff_ffff), fc.maxSafeNat(), fc.string({ unit: 'binary' }), (small, large, text) => {
        const bytes = new PacketWriter(5).u32(small).u64(large).text(text).done();
        const fields = new FieldReader(bytes.subarray(5));
        expect([fields.u32(), fields.u64(), fields.text(), fields.left]).toEqual([small, large, text, 0]);
        expect(() => fields.u32()).toThrow(SftpProtocolError);
      }),
      runs,
    );
  });
});
