/**
 * Hostile stations on a segment with an AoE target and an initiator: messages with every field
 * wrong in turn, truncated, oversized, to other shelves, of other versions, replayed, with forged
 * tags. Nothing may throw, grow or hang, and no byte beyond the disk is asked for. What the
 * stations may do, as they could anyway, is to write to the disk; so the initiator's own data are
 * on a target that is reserved for it.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { connectAoe } from '../../src/protocol/aoe/initiator/initiator.js';
import { parseIdentify } from '../../src/protocol/aoe/identify.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AoePeer, settle } from '../unit/aoe-peer.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';

const size = 1 << 16;
const runs = inputsWanted(200, 5_000);

/** A disk that fails the test if it is asked for a range that it does not have. */
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

const byte = fc.nat(255);
/** A message: header fields as they should be, or not, and any argument. */
const message = fc.record({
  version: fc.oneof({ weight: 6, arbitrary: fc.constant(0x10) }, byte),
  error: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, byte),
  shelf: fc.oneof({ weight: 6, arbitrary: fc.constant(1) }, fc.constantFrom(0xffff, 0), fc.nat(0xffff)),
  slot: fc.oneof({ weight: 6, arbitrary: fc.constant(2) }, fc.constantFrom(0xff, 0), byte),
  command: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.constantFrom(1, 2, 3, 0xfa), byte),
  tag: fc.oneof(fc.nat(8), fc.nat(0xffff_ffff)),
  argument: fc.oneof(
    fc.uint8Array({ maxLength: 1200 }),
    fc
      .tuple(
        fc.constantFrom(0x00, 0x01, 0x40, 0x41, 0xff),
        byte,
        fc.oneof(fc.nat(3), byte),
        fc.constantFrom(0x20, 0x24, 0x25, 0x30, 0x34, 0x3d, 0xe5, 0xe7, 0xea, 0xec, 0xef),
        fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, byte), { minLength: 6, maxLength: 6 }),
        fc.constantFrom(0, 1, 0xffff),
        fc.nat(1200),
      )
      .map(([flags, feature, count, command, lba, generation, length]) =>
        Uint8Array.of(
          flags,
          feature,
          count,
          command,
          ...lba,
          generation >> 8,
          generation & 0xff,
          ...new Uint8Array(length),
        ),
      ),
    fc
      .tuple(byte, fc.nat(5), byte, byte, fc.uint8Array({ maxLength: 600 }))
      .map(([a, b, c, d, rest]) => Uint8Array.of(a, b, c, d, ...rest)),
    fc
      .tuple(fc.nat(2), fc.nat(0xffff), fc.uint8Array({ minLength: 8, maxLength: 8 }))
      .map(([operation, generation, nonce]) =>
        Uint8Array.of(
          ...Buffer.from('FarbusS1'),
          operation,
          0,
          generation >> 8,
          generation & 0xff,
          ...nonce,
          ...new Uint8Array(12),
        ),
      ),
  ),
  cut: fc.oneof({ weight: 8, arbitrary: fc.constant(1500) }, fc.nat(60)),
  response: fc.boolean(),
});

type Message = typeof message extends fc.Arbitrary<infer T> ? T : never;

function frameOf(peer: AoePeer, one: Message): Uint8Array {
  const frame = peer.frame(one.command, one.tag, one.argument, { shelf: one.shelf, slot: one.slot });
  frame[14] = one.response ? one.version | 8 : one.version;
  frame[15] = one.error;
  return frame.subarray(0, Math.min(one.cut, 1514));
}

describe('hostile AoE messages', () => {
  it(
    'do not harm a target: it still answers',
    async () => {
      const messages = fc.array(message, { minLength: 1, maxLength: 60 });
      await attack(
        fc.asyncProperty(messages, async (list) => {
          const hub = new Hub({ mtu: 1500 });
          const disk = new StrictDevice(size);
          const target = new AoeTarget(hub, disk, { shelf: 1, slot: 2 });
          const peer = new AoePeer(hub);
          for (const one of list) peer.send(frameOf(peer, one));
          await settle();
          expect(disk.bad).toBe(0);
          for (const answer of peer.got) expect(answer.length).toBeLessThanOrEqual(1514);
          // Answers go to requests only: one each, besides the announcement.
          expect(peer.got.length).toBeLessThanOrEqual(list.length + 1);
          // Its lists may contain anything now. Another target on the segment is not disturbed, and
          // this one closes properly.
          const second = new AoeTarget(hub, disk, { shelf: 1, slot: 3 });
          expect(await peer.ask(peer.frame(1, 5, new Uint8Array(8), { slot: 3 }))).toBeDefined();
          await Promise.all([target.close(), second.close()]);
          await hub.close();
        }),
        runs,
      );
    },
    patience,
  );

  it(
    'do not harm an initiator: it reads the data that it wrote',
    async () => {
      const messages = fc.array(message, { minLength: 1, maxLength: 40 });
      await attack(
        fc.asyncProperty(messages, fc.nat(255), async (list, value) => {
          const hub = new Hub({ mtu: 1500 });
          const target = new AoeTarget(hub, new StrictDevice(size), { shelf: 1, slot: 2 });
          const mac = Uint8Array.of(2, 0, 0, 0, 0, 7);
          const owner = new AoePeer(hub, mac);
          // Heard is the initiator only.
          await owner.ask(owner.frame(2, 1, [0, 1, 0, 1, 0, 1, ...mac]));
          owner.port.close();
          const device = await connectAoe(hub, { shelf: 1, slot: 2, mac });
          const peer = new AoePeer(hub);
          peer.to = mac;
          const written = new Uint8Array(8192).fill(value);
          const write = device.write(4096, buffersOf(written));
          for (const one of list) peer.send(frameOf(peer, { ...one, response: true }));
          await write;
          for (const one of list) peer.send(frameOf(peer, one));
          const back = new Uint8Array(8192);
          await device.read(4096, buffersOf(back));
          expect(Buffer.compare(back, written)).toBe(0);
          await device.close();
          await target.close();
          await hub.close();
        }),
        runs,
      );
    },
    patience,
  );

  it('of IDENTIFY give usable facts, or an error text', async () => {
    await attack(
      fc.property(fc.uint8Array({ minLength: 512, maxLength: 512 }), (data) => {
        const facts = parseIdentify(data);
        if (typeof facts === 'string') return;
        expect(Number.isSafeInteger(facts.sectors * 512)).toBe(true);
        expect(facts.physicalSize).toBeGreaterThanOrEqual(512);
        expect(facts.physicalSize).toBeLessThanOrEqual(65536);
        expect(facts.serial).toMatch(/^[ -~]*$/);
      }),
      runs,
    );
  });
});
