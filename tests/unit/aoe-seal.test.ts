/**
 * Turned bits in the headers of a Farbus session: the target executes no damaged command, and the
 * initiator takes no damaged answer (src/protocol/aoe/seal.ts).
 */
import { describe, expect, it } from 'vitest';
import { getU16 } from '../../src/base/big-endian.js';
import { buffersOf } from '../../src/base/buffers.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { readAnswer } from '../../src/protocol/aoe/initiator/answer.js';
import { SentCommand, Request } from '../../src/protocol/aoe/initiator/command.js';
import { putSealed } from '../../src/protocol/aoe/seal.js';
import { getGrant, putOpening, sessionFrameSize, type SessionGrant } from '../../src/protocol/aoe/session.js';
import { AtaArgument, AtaFlag, Flag, Header } from '../../src/protocol/aoe/spec.js';
import { generationCount, generationOf } from '../../src/protocol/aoe/target/generations.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { flagsOf } from '../../src/protocol/aoe/wire.js';
import { AtaCommand } from '../../src/spec/ata.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { aoePair } from '../support/aoe.js';
import { AoePeer, shelf, slot } from './aoe-peer.js';

const firstTag = 100;

class CountingDisk extends MemoryDevice {
  changes = 0;
  protected override doWrite(...request: Parameters<MemoryDevice['doWrite']>): Promise<void> {
    this.changes++;
    return super.doWrite(...request);
  }
}

function setUp(): { peer: AoePeer; disk: CountingDisk; target: AoeTarget } {
  const hub = new Hub({ mtu: 9000 });
  const disk = new CountingDisk(1 << 20);
  const peer = new AoePeer(hub);
  return { peer, disk, target: new AoeTarget(hub, disk, { shelf, slot }) };
}

function opening(peer: AoePeer, nonce: number, supersedes = 0): Uint8Array {
  const frame = peer.frame(0xfa, 0x8000_0000, new Uint8Array(sessionFrameSize - 24));
  putOpening(frame, { nonce: new Uint8Array(8).fill(nonce), supersedes, firstTag, named: true, sealed: true });
  return frame;
}

function sealedWrite(peer: AoePeer, tag: number, { generation }: SessionGrant): Uint8Array {
  const frame = peer.ata(tag, { command: AtaCommand.writeSectorsExt, lba: 4, count: 1 }, new Uint8Array(512).fill(7));
  putSealed(frame, generation);
  return frame;
}

/** Copies of a frame, each with one turned bit between two offsets. */
function* damaged(frame: Uint8Array, from: number, to: number): Generator<Uint8Array> {
  for (let bit = 8 * from; bit < 8 * to; bit++) {
    const copy = frame.slice();
    copy[bit >> 3]! ^= 1 << (bit & 7);
    yield copy;
  }
}

describe('a sealed session', () => {
  it('executes no command with a turned bit in its header, and the undamaged one after that', async () => {
    const { peer, disk } = setUp();
    const grant = getGrant((await peer.ask(opening(peer, 1)))!)!;
    expect(grant.sealed).toBe(true);
    const frame = sealedWrite(peer, firstTag, grant);
    for (const copy of damaged(frame, Header.versionFlags, AtaArgument.size)) {
      // The error field means nothing in a request.
      if (copy[Header.error] === 0) await peer.ask(copy);
    }
    expect(disk.changes).toBe(0);
    const answer = (await peer.ask(frame))!;
    expect(flagsOf(answer)).toBe(8);
    expect(disk.changes).toBe(1);
    await peer.ask(frame);
    expect(disk.changes).toBe(1);
  });

  it('executes no delayed command of an ended session with up to three turned bits in its number', async () => {
    const { peer, disk } = setUp();
    let grant = getGrant((await peer.ask(opening(peer, 1)))!)!;
    for (let nonce = 2; nonce < 5; nonce++) {
      const delayed = sealedWrite(peer, firstTag, grant);
      grant = getGrant((await peer.ask(opening(peer, nonce, grant.generation)))!)!;
      for (const one of damaged(delayed, AtaArgument.reserved, AtaArgument.size)) {
        await peer.ask(one);
        for (const two of damaged(one, AtaArgument.reserved, AtaArgument.size)) {
          await peer.ask(two);
          if (nonce === 2)
            for (const three of damaged(two, AtaArgument.reserved, AtaArgument.size)) await peer.ask(three);
        }
      }
    }
    expect(disk.changes).toBe(0);
    await peer.ask(sealedWrite(peer, firstTag, grant));
    expect(disk.changes).toBe(1);
  });

  it('has a number that differs from every other, and from zero, in at least four bits', () => {
    const bitsIn = (word: number): number => word.toString(2).replaceAll('0', '').length;
    const numbers = Array.from({ length: generationCount }, (_, index) => generationOf(index + 1));
    expect(new Set(numbers).size).toBe(generationCount);
    // The XOR of two numbers is a third: so the fewest bits of one are the fewest between two.
    expect(numbers.every((one) => numbers.includes(one ^ numbers[0]!) || one === numbers[0])).toBe(true);
    expect(Math.min(...numbers.map(bitsIn))).toBe(4);
    expect(Math.max(...numbers)).toBeLessThan(1 << 16);
  });

  it('is granted for no opening with a turned bit', async () => {
    const { peer, target } = setUp();
    for (const copy of damaged(opening(peer, 2), Header.tag, sessionFrameSize)) {
      const answer = await peer.ask(copy);
      // Without the magic bytes it is another vendor's command.
      expect(answer === undefined || getGrant(answer) === undefined).toBe(true);
    }
    expect(target.counters.malformed).toBeGreaterThan(200);
  });

  it('takes no answer with a turned bit in its header', async () => {
    const { peer } = setUp();
    const grant = getGrant((await peer.ask(opening(peer, 3)))!)!;
    const frame = sealedWrite(peer, firstTag, grant);
    const request = new Request(1, {}, () => undefined);
    const buffers = buffersOf(new Uint8Array(512));
    const parts = {
      kind: 'write',
      ata: AtaCommand.writeSectorsExt,
      lba: 4,
      count: 1,
      buffers,
      at: 0,
      fua: false,
    } as const;
    const command = new SentCommand(request, parts);
    const read = (answer: Uint8Array, of = grant): unknown => readAnswer(answer, flagsOf(answer), command, of);
    const good = (await peer.ask(frame))!;
    expect(read(good)).toBeUndefined();
    for (const copy of damaged(good, Header.versionFlags, AtaArgument.size)) expect(read(copy)).toBe('malformed');
    // The answer of a target that was restarted since.
    const other = setUp();
    const unknown = (await other.peer.ask(frame))!;
    expect(read(unknown)).toBe('unknown session');
    for (const copy of damaged(unknown, Header.shelf, AtaArgument.size)) expect(read(copy)).toBe('malformed');
    // The target gets a damaged command, and does not know its session either.
    const { peer: third } = setUp();
    const thirdGrant = getGrant((await third.ask(opening(third, 5)))!)!;
    const sent = sealedWrite(third, firstTag, thirdGrant);
    for (const copy of damaged(sent, Header.error, AtaArgument.size)) {
      const answer = await third.ask(copy);
      if (answer && flagsOf(answer) & Flag.error) expect(read(answer, thirdGrant)).toBe('malformed');
    }
  });

  it('has no command that three flipped bits make one outside of a session', async () => {
    const { hub, device, cleanup } = await aoePair(new MemoryDevice(1 << 20));
    const fields: number[] = [];
    const onFrame = (frame: Uint8Array): void => {
      const isCommand = frame[Header.command] === 0 && !(flagsOf(frame) & Flag.response);
      if (isCommand) fields.push(getU16(frame, AtaArgument.reserved));
    };
    hub.attach({ promiscuous: true, onFrame });
    const block = buffersOf(new Uint8Array(512));
    for (let i = 0; i < 2000; i++) await device.read(512 * (i % 2048), block);
    const bits = fields.map((field) => field.toString(2).replaceAll('0', '').length);
    expect(fields.length).toBeGreaterThanOrEqual(2000);
    expect(Math.min(...bits)).toBeGreaterThanOrEqual(4);
    await device.close();
    await cleanup();
  });

  it('is a session without seals for an initiator that offers none', async () => {
    const { peer, disk } = setUp();
    const frame = opening(peer, 4);
    putOpening(frame, { nonce: new Uint8Array(8).fill(4), supersedes: 0, firstTag, named: true, sealed: false });
    frame.fill(0, sessionFrameSize - 4);
    const grant = getGrant((await peer.ask(frame))!)!;
    expect(grant.sealed).toBe(false);
    const { generation } = grant;
    const flags = AtaFlag.extended | AtaFlag.write;
    const ata = { command: AtaCommand.writeSectorsExt, lba: 4, count: 1, flags, generation };
    const answer = (await peer.ask(peer.ata(firstTag, ata, new Uint8Array(512))))!;
    expect(flagsOf(answer)).toBe(8);
    expect(disk.changes).toBe(1);
  });
});
