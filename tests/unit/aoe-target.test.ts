/**
 * The AoE target, byte by byte: [AoE] commands and errors, ATA registers, access lists, repeated
 * commands.
 */
import { describe, expect, it } from 'vitest';
import type { DirectAccess } from '../../src/block/direct.js';
import type { Buffers } from '../../src/base/buffers.js';
import { FarbusError } from '../../src/base/errors.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import type { DiskMarks } from '../../src/block/identity.js';
import { parseIdentify, type DiskFacts } from '../../src/protocol/aoe/identify.js';
import { getGrant, putOpening, sessionFrameSize, unknownSession } from '../../src/protocol/aoe/session.js';
import { AtaCommand } from '../../src/spec/ata.js';
import { AtaArgument, AtaFlag } from '../../src/protocol/aoe/spec.js';
import { flagsOf, getConfig, tagOf } from '../../src/protocol/aoe/wire.js';
import { AoeTarget, type AoeTargetOptions } from '../../src/protocol/aoe/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AoePeer, settle, shelf, slot } from './aoe-peer.js';

const size = 1 << 20;

/** Counts the requests that reach it, and holds writes back while `gate` is set. */
class WatchedDevice extends MemoryDevice {
  writes = 0;
  flushes = 0;
  fua = 0;
  gate: Promise<void> | undefined;
  protected override async doWrite(offset: number, from: Buffers, options: { fua?: boolean } = {}): Promise<void> {
    this.writes++;
    if (options.fua) this.fua++;
    await this.gate;
    await super.doWrite(offset, from);
  }
  protected override async doFlush(): Promise<void> {
    this.flushes++;
  }
}

function setUp(options: Partial<AoeTargetOptions> = {}, mtu = 9000) {
  const hub = new Hub({ mtu });
  const peer = new AoePeer(hub);
  const device = new WatchedDevice(Uint8Array.from({ length: size }, (_, index) => index >> 9));
  const target = new AoeTarget(hub, device, { shelf, slot, ...options });
  return { hub, peer, device, target };
}

const error = (frame: Uint8Array | undefined): number => (flagsOf(frame!) & 4 ? frame![15]! : 0);
const status = (frame: Uint8Array | undefined): number[] => [
  frame![AtaArgument.command]!,
  frame![AtaArgument.feature]!,
];
const sectors = (count: number, value: number): Uint8Array => new Uint8Array(count * 512).fill(value);

/** Opens a session. Resolves with its generation. */
async function openSession(
  peer: AoePeer,
  nonce: number,
  firstTag: number,
  supersedes = 0,
  named = false,
): Promise<number> {
  const frame = peer.frame(0xfa, 0x8000_0000 + nonce, new Uint8Array(sessionFrameSize - 24));
  putOpening(frame, { nonce: new Uint8Array(8).fill(nonce), supersedes, firstTag, named, sealed: false });
  return getGrant((await peer.ask(frame))!)!.generation;
}

/** Answers synchronously while it is `ready`. */
class ReadyDevice extends WatchedDevice {
  ready = true;
  now = 0;
  override readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    super(bytes);
    this.bytes = bytes;
  }
  protected override get uncheckedDirect(): DirectAccess {
    return {
      read: (offset, into) => {
        if (!this.ready) return false;
        into.set(this.bytes.subarray(offset, offset + into.length));
        return ++this.now > 0;
      },
      write: (offset, from) => {
        if (!this.ready) return false;
        this.bytes.set(from, offset);
        return ++this.now > 0;
      },
    };
  }
}

describe('an AoE target of a device with synchronous reads and writes', () => {
  const setUpReady = (options: Partial<AoeTargetOptions> = {}) => {
    const hub = new Hub({ mtu: 9000 });
    const peer = new AoePeer(hub);
    const device = new ReadyDevice(Uint8Array.from({ length: size }, (_, index) => index >> 9));
    return { peer, device, target: new AoeTarget(hub, device, { shelf, slot, ...options }) };
  };

  it('uses them, and asks the device asynchronously where it would have to wait', async () => {
    const { peer, device, target } = setUpReady();
    for (const ready of [true, false]) {
      device.ready = ready;
      const read = (await peer.ask(peer.ata(1, { command: AtaCommand.readSectorsExt, lba: 7, count: 16 })))!;
      expect(status(read)).toEqual([0x40, 0]);
      expect(read).toHaveLength(AtaArgument.size + 16 * 512);
      expect(read.subarray(AtaArgument.size)).toEqual(device.bytes.subarray(7 * 512, 23 * 512));
      const value = ready ? 0xa1 : 0xa2;
      const write = peer.ata(2 + value, { command: AtaCommand.writeSectorsExt, lba: 9, count: 3 }, sectors(3, value));
      expect(status(await peer.ask(write))).toEqual([0x40, 0]);
      expect(peer.got[0]).toHaveLength(60);
      expect(device.bytes.subarray(9 * 512, 12 * 512)).toEqual(sectors(3, value));
    }
    expect([device.now, device.writes]).toEqual([2, 1]);
    expect(target.counters).toMatchObject({ bytesRead: 2 * 16 * 512, bytesWritten: 2 * 3 * 512, errors: 0 });
  });

  it('does not execute a copy again, and writes durably on request', async () => {
    const { peer, device, target } = setUpReady();
    const generation = await openSession(peer, 1, 100);
    const write = peer.ata(
      100,
      { command: AtaCommand.writeSectorsExt, lba: 0, count: 1, generation },
      sectors(1, 0xb1),
    );
    expect(status(await peer.ask(write))).toEqual([0x40, 0]);
    device.bytes.fill(0xb2, 0, 512);
    expect(status(await peer.ask(write))).toEqual([0x40, 0]);
    expect(device.bytes.subarray(0, 512)).toEqual(sectors(1, 0xb2));
    expect(target.counters.copies).toBe(1);
    const fua = { command: AtaCommand.writeDmaFuaExt, lba: 0, count: 1, generation };
    expect(status(await peer.ask(peer.ata(101, fua, sectors(1, 0xb3))))).toEqual([0x40, 0]);
    expect([device.now, device.fua]).toEqual([1, 1]);
    const through = setUpReady({ writeThrough: true });
    const plain = { command: AtaCommand.writeSectorsExt, lba: 0, count: 1 };
    expect(status(await through.peer.ask(through.peer.ata(1, plain, sectors(1, 1))))).toEqual([0x40, 0]);
    expect([through.device.now, through.device.fua]).toEqual([0, 1]);
  });

  it('refuses requests beyond the end, and reveals no old memory', async () => {
    const { peer } = setUpReady();
    await peer.ask(peer.ata(1, { command: AtaCommand.readSectorsExt, lba: 5, count: 17 }));
    const beyond = (await peer.ask(peer.ata(2, { command: AtaCommand.readSectorsExt, lba: size / 512, count: 1 })))!;
    expect(status(beyond)[0]! & 1).toBe(1);
    const written = (await peer.ask(
      peer.ata(3, { command: AtaCommand.writeSectorsExt, lba: 0, count: 1 }, sectors(1, 9)),
    ))!;
    expect(written.subarray(AtaArgument.size)).toEqual(new Uint8Array(60 - AtaArgument.size));
  });
});

describe('an AoE target', () => {
  it('announces itself, and answers a query for it or for all', async () => {
    const { peer, target } = setUp({ bufferCount: 8, config: Uint8Array.of(65, 66) });
    await settle();
    expect(peer.got).toHaveLength(1);
    const [announcement] = peer.got;
    expect([...announcement!.subarray(0, 6)]).toEqual([255, 255, 255, 255, 255, 255]);
    expect(announcement!.subarray(6, 12)).toEqual(target.mac);
    const query = peer.frame(1, 77, new Uint8Array(8));
    for (const at of [{}, { shelf: 0xffff, slot: 0xff }, { shelf: 0xffff }]) {
      const answer = (await peer.ask(peer.frame(1, 77, new Uint8Array(8), at)))!;
      expect([answer[14], answer[15], answer[16], answer[17], answer[18], answer[19]]).toEqual([0x18, 0, 0, 1, 2, 1]);
      expect(answer.subarray(0, 6)).toEqual(peer.port.mac);
      expect(tagOf(answer)).toBe(77);
      expect(getConfig(answer)).toEqual({ bufferCount: 8, firmware: 1, sectors: 17, text: Uint8Array.of(65, 66) });
      expect(answer.length).toBe(60);
    }
    for (const at of [{ shelf: 3 }, { slot: 3 }])
      expect(await peer.ask(peer.frame(1, 1, new Uint8Array(8), at))).toBeUndefined();
    query[14] = 0x18;
    expect(await peer.ask(query)).toBeUndefined();
  });

  it('carries two sectors in frames of 1500 bytes', async () => {
    const { peer } = setUp({}, 1500);
    expect(getConfig((await peer.ask(peer.frame(1, 1, new Uint8Array(8))))!)!.sectors).toBe(2);
    expect(error(await peer.ask(peer.ata(1, { command: AtaCommand.readSectorsExt, count: 3 })))).toBe(2);
  });

  it('keeps a config string: [AoE] 3.2', async () => {
    const { peer } = setUp();
    const config = (command: number, text: string): Uint8Array =>
      peer.frame(1, 1, [0, 0, 0, 0, 0, 0x10 | command, 0, text.length, ...Buffer.from(text)]);
    const text = (frame: Uint8Array | undefined): string => Buffer.from(getConfig(frame!)!.text).toString();
    expect(text(await peer.ask(config(3, 'one')))).toBe('one');
    expect(text(await peer.ask(config(3, 'one')))).toBe('one');
    expect(error(await peer.ask(config(3, 'two')))).toBe(4);
    expect(text(await peer.ask(config(1, 'one')))).toBe('one');
    expect(await peer.ask(config(1, 'on'))).toBeUndefined();
    expect(text(await peer.ask(config(2, 'on')))).toBe('one');
    expect(await peer.ask(config(2, 'x'))).toBeUndefined();
    expect(text(await peer.ask(config(4, 'three')))).toBe('three');
    expect(error(await peer.ask(config(7, '')))).toBe(2);
    // A frame shorter than its length field says was truncated in flight: no answer. A length above
    // the limit is an error.
    expect(await peer.ask(peer.frame(1, 1, [0, 0, 0, 0, 0, 0x14, 0, 9, 1]))).toBeUndefined();
    expect(error(await peer.ask(peer.frame(1, 1, [0, 0, 0, 0, 0, 0x14, 4, 1, ...new Uint8Array(1025)])))).toBe(2);
    expect(text(await peer.ask(config(0, '')))).toBe('three');
  });

  it('answers only the addresses in its mask list: [AoE] 3.3', async () => {
    const { hub, peer, target } = setUp();
    const other = new AoePeer(hub, Uint8Array.of(2, 0, 0, 0, 0, 9));
    const mask = (command: number, ...directives: (readonly [number, Uint8Array])[]): Uint8Array =>
      peer.frame(2, 1, [0, command, 0, directives.length, ...directives.flatMap(([one, mac]) => [0, one, ...mac])]);
    const added = (await peer.ask(mask(1, [1, peer.port.mac], [1, peer.port.mac])))!;
    expect([added[26], added[27]]).toEqual([0, 1]);
    expect(added.subarray(30, 36)).toEqual(peer.port.mac);
    expect(await other.ask(other.frame(1, 1, new Uint8Array(8)))).toBeUndefined();
    expect(target.counters.masked).toBe(1);
    const wrong = (await peer.ask(mask(1, [0, peer.port.mac], [9, peer.port.mac])))!;
    expect([wrong[26], wrong[27]]).toEqual([2, 1]);
    expect(error(await peer.ask(mask(5)))).toBe(2);
    expect(await peer.ask(peer.frame(2, 1, [0, 1, 0, 200]))).toBeUndefined();
    const removed = (await peer.ask(mask(1, [2, peer.port.mac])))!;
    expect(removed[27]).toBe(0);
    expect(await other.ask(other.frame(1, 1, new Uint8Array(8)))).toBeDefined();
    const many = Array.from({ length: 255 }, (_, index) => [1, Uint8Array.of(2, 1, 0, 0, 0, index)] as const);
    expect((await peer.ask(mask(1, [1, peer.port.mac], ...many.slice(0, 254))))![27]).toBe(255);
    expect((await peer.ask(mask(1, [1, Uint8Array.of(2, 2, 0, 0, 0, 0)])))![26]).toBe(3);
  });

  it('is reserved and released: [AoE] 3.4', async () => {
    const { hub, peer } = setUp();
    const other = new AoePeer(hub, Uint8Array.of(2, 0, 0, 0, 0, 9));
    const reserve = (who: AoePeer, command: number, ...macs: Uint8Array[]): Uint8Array =>
      who.frame(3, 1, [command, macs.length, ...macs.flatMap((mac) => [...mac])]);
    expect((await peer.ask(reserve(peer, 1, peer.port.mac)))![25]).toBe(1);
    expect(error(await other.ask(other.ata(1, { command: AtaCommand.readSectorsExt, count: 1 })))).toBe(6);
    expect(error(await other.ask(other.ata(1, { command: AtaCommand.identify, count: 1 })))).toBe(0);
    expect(error(await other.ask(reserve(other, 1)))).toBe(6);
    const read = (await other.ask(reserve(other, 0)))!;
    expect(read.subarray(26, 32)).toEqual(peer.port.mac);
    expect(error(await peer.ask(peer.ata(1, { command: AtaCommand.readSectorsExt, count: 1 })))).toBe(0);
    expect((await other.ask(reserve(other, 2, other.port.mac)))![25]).toBe(1);
    expect(error(await peer.ask(peer.ata(2, { command: AtaCommand.readSectorsExt, count: 1 })))).toBe(6);
    expect((await other.ask(reserve(other, 1)))![25]).toBe(0);
    expect(error(await peer.ask(peer.ata(3, { command: AtaCommand.readSectorsExt, count: 1 })))).toBe(0);
    expect(error(await peer.ask(reserve(peer, 9)))).toBe(2);
    expect(await peer.ask(peer.frame(3, 1, [1, 3, 1, 2]))).toBeUndefined();
  });

  it('identifies its disk', async () => {
    const { peer } = setUp({ model: 'A model', serial: 'S1' });
    const answer = (await peer.ask(peer.ata(1, { command: AtaCommand.identify, count: 1 })))!;
    const data = answer.subarray(36);
    expect(data).toHaveLength(512);
    expect(parseIdentify(data)).toMatchObject({
      sectors: 2048,
      model: 'A model',
      serial: 'S1',
      flush: true,
      fua: true,
      lba48: true,
      physicalSize: 4096,
    });
    expect(data.reduce((sum, byte) => sum + byte, 0) & 0xff).toBe(0);
    expect(error(await peer.ask(peer.ata(1, { command: AtaCommand.identify, count: 2 })))).toBe(2);
  });

  it('identifies its disk only by permanent marks', async () => {
    const nameOf = async (marks: DiskMarks | undefined) => {
      const device = new MemoryDevice(1 << 20);
      Object.defineProperty(device, 'info', { value: { ...device.info, marks } });
      const hub = new Hub({ mtu: 9000 });
      const peer = new AoePeer(hub);
      void new AoeTarget(hub, device, { shelf, slot });
      const answer = (await peer.ask(peer.ata(1, { command: AtaCommand.identify, count: 1 })))!;
      return (parseIdentify(answer.subarray(36)) as DiskFacts).worldWideName;
    };
    const name = await nameOf({ file: '12:34' });
    expect(name).toMatch(/^3[0-9a-f]{15}$/);
    expect(await nameOf({ file: '12:34', table: 'mbr:1' })).toBe(name);
    expect(await nameOf({ file: '12:35' })).not.toBe(name);
    expect(await nameOf({ table: 'mbr:1' })).toBe('');
    expect(await nameOf(undefined)).toBe('');
  });

  it('reads and writes with 28 and 48 bits', async () => {
    const { peer, device } = setUp();
    for (const [read, write, flags] of [
      [AtaCommand.readSectors, AtaCommand.writeSectors, AtaFlag.device],
      [AtaCommand.readSectorsExt, AtaCommand.writeSectorsExt, AtaFlag.extended],
      [AtaCommand.readDmaExt, AtaCommand.writeDmaFuaExt, AtaFlag.extended],
    ] as const) {
      const wrote = await peer.ask(
        peer.ata(write, { command: write, lba: 7, count: 2, flags: flags | AtaFlag.write }, sectors(2, write)),
      );
      expect([error(wrote), ...status(wrote)]).toEqual([0, 0x40, 0]);
      const back = (await peer.ask(peer.ata(read, { command: read, lba: 6, count: 3, flags })))!;
      expect(back).toHaveLength(36 + 3 * 512);
      expect([back[36], back[36 + 512], back[36 + 1535]]).toEqual([6, write, write]);
    }
    expect([device.writes, device.fua]).toEqual([3, 1]);
  });

  it("answers wrong commands with the specifications' errors", async () => {
    const { peer, device, target } = setUp();
    const read = (lba: number, count: number): Uint8Array =>
      peer.ata(1, { command: AtaCommand.readSectorsExt, lba, count });
    expect(status(await peer.ask(read(2048, 1)))).toEqual([0x41, 0x10]);
    expect(status(await peer.ask(read(2047, 2)))).toEqual([0x41, 0x10]);
    expect(status(await peer.ask(read(2 ** 48 - 1, 2)))).toEqual([0x41, 0x10]);
    expect(error(await peer.ask(read(0, 0)))).toBe(2);
    expect(error(await peer.ask(read(0, 18)))).toBe(2);
    const write = { command: AtaCommand.writeSectorsExt, lba: 0, count: 2 };
    expect(error(await peer.ask(peer.ata(1, { ...write, flags: AtaFlag.extended }, sectors(2, 1))))).toBe(2);
    expect(status(await peer.ask(peer.ata(1, { command: 0xb0 })))).toEqual([0x41, 0x04]);
    expect(error(await peer.ask(peer.frame(9, 1, [])))).toBe(1);
    expect(error(await peer.ask(peer.frame(0xf7, 1, [])))).toBe(1);
    expect(error(await peer.ask(peer.frame(0xfa, 1, new Uint8Array(sessionFrameSize - 24))))).toBe(1);
    const version = read(0, 1);
    version[14] = 0x20;
    expect(error(await peer.ask(version))).toBe(5);
    expect(device.writes).toBe(0);
    const dropped = target.counters.malformed;
    const reserved = read(0, 1);
    reserved[14] = 0x11;
    expect(await peer.ask(reserved)).toBeUndefined();
    expect(await peer.ask(read(0, 1).subarray(0, 35))).toBeUndefined();
    expect(await peer.ask(peer.ata(1, write, sectors(1, 1)))).toBeUndefined();
    expect(await peer.ask(peer.frame(0xfa, 1, [1, 2, 3]))).toBeUndefined();
    const everyone = peer.ata(1, write, sectors(2, 1));
    everyone[16] = everyone[17] = 0xff;
    expect(await peer.ask(everyone)).toBeUndefined();
    expect(target.counters.malformed).toBe(dropped + 5);
    expect(device.writes).toBe(0);
  });

  it('ignores frames for another shelf or slot', async () => {
    const { peer, device, target } = setUp();
    const { commands } = target.counters;
    const read = { command: AtaCommand.readSectorsExt, lba: 0, count: 1 };
    const write = { command: AtaCommand.writeSectorsExt, lba: 0, count: 1 };
    const places = [
      [shelf + 1, slot],
      [shelf, slot + 1],
      [slot, shelf],
      [0, 0],
    ] as const;
    for (const [otherShelf, otherSlot] of places) {
      if (otherShelf === shelf && otherSlot === slot) continue;
      for (const frame of [peer.ata(1, read), peer.ata(2, write, sectors(1, 1)), peer.frame(1, 3, new Uint8Array(8))]) {
        [frame[16], frame[17], frame[18]] = [otherShelf >> 8, otherShelf & 0xff, otherSlot];
        expect(await peer.ask(frame)).toBeUndefined();
      }
    }
    expect(target.counters.commands).toBe(commands);
    expect(device.writes).toBe(0);
    expect(await peer.ask(peer.ata(4, read))).toBeDefined();
  });

  it('refuses writes if it is read-only, and turns its write cache off on request', async () => {
    const readOnly = setUp({ readOnly: true });
    const write = { command: AtaCommand.writeSectorsExt, count: 1 };
    expect(status(await readOnly.peer.ask(readOnly.peer.ata(1, write, sectors(1, 1))))).toEqual([0x41, 0x44]);
    const { peer, device } = setUp();
    expect(status(await peer.ask(peer.ata(1, { command: AtaCommand.setFeatures, feature: 0x82 })))).toEqual([0x40, 0]);
    await peer.ask(peer.ata(2, write, sectors(1, 1)));
    expect(device.fua).toBe(1);
    expect(status(await peer.ask(peer.ata(3, { command: AtaCommand.setFeatures, feature: 0x03 })))).toEqual([
      0x41, 0x04,
    ]);
    expect(status(await peer.ask(peer.ata(4, { command: AtaCommand.flushCache })))).toEqual([0x40, 0]);
    expect(device.flushes).toBe(1);
  });

  it("reports the device's errors, for each message its own", async () => {
    const hub = new Hub({ mtu: 9000 });
    const peer = new AoePeer(hub);
    const faulty = new FaultFilter(new MemoryDevice(size), [
      { on: ['read', 'write'], range: { offset: 8192, length: 512 }, action: 'io' },
      { on: ['read'], range: { offset: 65536, length: 512 }, action: 'unreachable' },
    ]);
    const target = new AoeTarget(hub, faulty, { shelf, slot });
    await settle();
    peer.got.length = 0;
    // Adjacent requests that arrive together become one read of the device, but still fail one by
    // one.
    for (let tag = 0; tag < 4; tag++)
      peer.send(peer.ata(tag, { command: AtaCommand.readSectorsExt, lba: 8 + 4 * tag, count: 4 }));
    await settle();
    const byTag = [...peer.got].sort((a, b) => tagOf(a) - tagOf(b)).map(status);
    expect(byTag).toEqual([
      [0x40, 0],
      [0x40, 0],
      [0x41, 0x40],
      [0x40, 0],
    ]);
    const write = peer.ata(9, { command: AtaCommand.writeSectorsExt, lba: 16, count: 1 }, sectors(1, 1));
    expect(status(await peer.ask(write))).toEqual([0x61, 0x04]);
    expect(error(await peer.ask(peer.ata(10, { command: AtaCommand.readSectorsExt, lba: 128, count: 1 })))).toBe(3);
    expect(target.counters.errors).toBe(3);
  });

  it('refuses devices that AoE cannot serve', () => {
    const hub = new Hub();
    const device = new MemoryDevice(size);
    expect(() => new AoeTarget(hub, device, { shelf: 0xffff, slot: 0 })).toThrow(FarbusError);
    expect(() => new AoeTarget(hub, device, { shelf: 0, slot: 255 })).toThrow(FarbusError);
    expect(() => new AoeTarget(hub, device, { shelf: 0, slot: 0, bufferCount: 0 })).toThrow(FarbusError);
    expect(() => new AoeTarget(hub, new MemoryDevice(size, { blockSize: 4096 }), { shelf: 0, slot: 0 })).toThrow(
      /sectors of 512/,
    );
    expect(() => new AoeTarget(new Hub({ mtu: 500 }), device, { shelf: 0, slot: 0 })).toThrow(/carry no sector/);
  });

  it('finishes commands in flight when it is closed, and ignores later frames', async () => {
    const { peer, device, target } = setUp();
    let open!: () => void;
    device.gate = new Promise((resolve) => (open = resolve));
    peer.send(peer.ata(1, { command: AtaCommand.writeSectorsExt, count: 1 }, sectors(1, 9)));
    await settle();
    peer.got.length = 0;
    const closed = target.close();
    expect(await peer.ask(peer.ata(2, { command: AtaCommand.readSectorsExt, count: 1 }))).toBeUndefined();
    open();
    await closed;
    await settle();
    expect(peer.got.map(tagOf)).toEqual([1]);
  });
});

describe('copies of a command', () => {
  const write = { command: AtaCommand.writeSectorsExt, lba: 4, count: 1 };

  it('are not executed again: outside of a session while the first runs, and shortly after', async () => {
    const { peer, device, target } = setUp();
    let open!: () => void;
    device.gate = new Promise((resolve) => (open = resolve));
    const frame = peer.ata(1, write, sectors(1, 1));
    expect(await peer.ask(frame)).toBeUndefined();
    expect(await peer.ask(frame)).toBeUndefined();
    peer.got.length = 0;
    open();
    await settle();
    expect(peer.got).toHaveLength(1);
    expect(status(await peer.ask(frame))).toEqual([0x40, 0]);
    expect([device.writes, target.counters.copies]).toEqual([1, 2]);
    // The same tag with other content is another command.
    await peer.ask(peer.ata(1, { ...write, lba: 5 }, sectors(1, 1)));
    expect(device.writes).toBe(2);
  });

  it('of a session are recognised as long as it lasts: a late one never lands on newer data', async () => {
    const { peer, device, target } = setUp();
    const generation = await openSession(peer, 1, 100);
    const old = peer.ata(100, { ...write, generation }, sectors(1, 1));
    expect(status(await peer.ask(old))).toEqual([0x40, 0]);
    expect(status(await peer.ask(peer.ata(101, { ...write, generation }, sectors(1, 2))))).toEqual([0x40, 0]);
    await peer.ask(old);
    // Much later, when the tag is no longer remembered.
    for (let tag = 102; tag < 2102; tag += 500) await peer.ask(peer.ata(tag, { ...write, generation }, sectors(1, 3)));
    expect(await peer.ask(old)).toBeUndefined();
    expect(target.counters.stale).toBe(1);
    expect(device.writes).toBe(6);
    const back = (await peer.ask(peer.ata(5000, { command: AtaCommand.readSectorsExt, lba: 4, count: 1 })))!;
    expect(back[36]).toBe(3);
  });

  it('of a refused command are refused too, even if they could be executed by then', async () => {
    const { peer, device, hub } = setUp();
    const generation = await openSession(peer, 1, 100);
    const other = new AoePeer(hub, Uint8Array.of(2, 0, 0, 0, 0, 9));
    const reserve = (...macs: readonly Uint8Array[]): Uint8Array =>
      other.frame(3, 1, [1, macs.length, ...macs.flatMap((mac) => [...mac])]);
    await other.ask(reserve(other.port.mac));
    const refused = peer.ata(100, { ...write, generation }, sectors(1, 1));
    const plain = peer.ata(7, write, sectors(1, 1));
    const wrong = peer.ata(101, { ...write, generation, flags: AtaFlag.extended }, sectors(1, 1));
    expect(error(await peer.ask(refused))).toBe(6);
    expect(error(await peer.ask(plain))).toBe(6);
    expect(error(await peer.ask(wrong))).toBe(2);
    await other.ask(reserve());
    expect(error(await peer.ask(refused))).toBe(6);
    expect(error(await peer.ask(plain))).toBe(6);
    expect(error(await peer.ask(peer.ata(101, { ...write, generation }, sectors(1, 1))))).toBe(2);
    expect(device.writes).toBe(0);
    expect(status(await peer.ask(peer.ata(102, { ...write, generation }, sectors(1, 1))))).toEqual([0x40, 0]);
  });

  it('that lost a part of their data are not answered, and do not count as copies', async () => {
    const { peer, device, target } = setUp();
    const generation = await openSession(peer, 1, 100);
    const whole = peer.ata(100, { ...write, generation }, sectors(1, 1));
    const before = target.counters.malformed;
    expect(await peer.ask(whole.subarray(0, whole.length - 1))).toBeUndefined();
    expect(target.counters.malformed).toBe(before + 1);
    expect(status(await peer.ask(whole))).toEqual([0x40, 0]);
    expect(device.writes).toBe(1);
  });

  it('of reads are answered again', async () => {
    const { peer } = setUp();
    const generation = await openSession(peer, 1, 1);
    const read = peer.ata(2, { command: AtaCommand.readSectorsExt, lba: 4, count: 1, generation });
    expect((await peer.ask(read))![36]).toBe(4);
    await peer.ask(peer.ata(3, { ...write, generation }, sectors(1, 9)));
    expect((await peer.ask(read))![36]).toBe(9);
  });

  it('of a superseded session are refused, and its commands have ended before the new one begins', async () => {
    const { peer, device } = setUp();
    const first = await openSession(peer, 1, 1);
    let open!: () => void;
    device.gate = new Promise((resolve) => (open = resolve));
    peer.send(peer.ata(1, { ...write, generation: first }, sectors(1, 1)));
    await settle();
    const opening = peer.frame(0xfa, 77, new Uint8Array(sessionFrameSize - 24));
    putOpening(opening, {
      nonce: new Uint8Array(8).fill(2),
      supersedes: first,
      firstTag: 10,
      named: true,
      sealed: false,
    });
    expect(await peer.ask(opening)).toBeUndefined();
    expect(error(await peer.ask(peer.ata(2, { ...write, generation: first }, sectors(1, 1))))).toBe(unknownSession);
    peer.got.length = 0;
    open();
    device.gate = undefined;
    await settle();
    const grant = peer.got.map(getGrant).find((one) => one !== undefined)!;
    expect(grant.generation).not.toBe(first);
    expect(device.writes).toBe(1);
    // Copies of the opening frame give the same session.
    expect(getGrant((await peer.ask(opening))!)!.generation).toBe(grant.generation);
  });

  it('of all older sessions of an address are refused after an opening that names none', async () => {
    const { hub, peer, device } = setUp();
    const generations = [await openSession(peer, 1, 1, 0, true), await openSession(peer, 2, 1, 0, true)];
    const other = new AoePeer(hub, Uint8Array.of(2, 0, 0, 0, 0, 9));
    const others = await openSession(other, 3, 1);
    let open!: () => void;
    device.gate = new Promise((resolve) => (open = resolve));
    peer.send(peer.ata(1, { ...write, generation: generations[0]! }, sectors(1, 1)));
    await settle();
    const opening = peer.frame(0xfa, 77, new Uint8Array(sessionFrameSize - 24));
    putOpening(opening, { nonce: new Uint8Array(8).fill(4), supersedes: 0, firstTag: 1, named: false, sealed: false });
    // It is answered only when the requests of the older sessions have ended.
    expect(await peer.ask(opening)).toBeUndefined();
    open();
    device.gate = undefined;
    await settle();
    const newest = getGrant((await peer.ask(opening))!)!.generation;
    for (const generation of generations) {
      expect(error(await peer.ask(peer.ata(2, { ...write, generation }, sectors(1, 2))))).toBe(unknownSession);
    }
    // Copies of the opening end no further session. Neither does an opening that names the sessions
    // to end.
    const neighbour = await openSession(peer, 5, 1, 0, true);
    expect(getGrant((await peer.ask(opening))!)!.generation).toBe(newest);
    for (const generation of [neighbour, newest]) {
      expect(status(await peer.ask(peer.ata(1, { ...write, generation }, sectors(1, 3))))).toEqual([0x40, 0]);
    }
    expect(status(await other.ask(other.ata(1, { ...write, generation: others }, sectors(1, 3))))).toEqual([0x40, 0]);
  });

  it("of another target's session, another initiator's, or tags that cannot be its own are refused", async () => {
    const { hub, peer, device } = setUp();
    const generation = await openSession(peer, 1, 100);
    const other = new AoePeer(hub, Uint8Array.of(2, 0, 0, 0, 0, 9));
    expect(error(await other.ask(other.ata(100, { ...write, generation }, sectors(1, 1))))).toBe(unknownSession);
    expect(
      error(await peer.ask(peer.ata(100, { ...write, generation: (generation % 65535) + 1 }, sectors(1, 1)))),
    ).toBe(unknownSession);
    expect(error(await peer.ask(peer.ata(5000, { ...write, generation }, sectors(1, 1))))).toBe(unknownSession);
    expect(device.writes).toBe(0);
  });

  it('do not exhaust it: sessions give way, the oldest first', async () => {
    const { peer } = setUp();
    const first = await openSession(peer, 1, 1);
    for (let nonce = 2; nonce <= 66; nonce++) await openSession(peer, nonce, 1, 0, true);
    expect(error(await peer.ask(peer.ata(1, { ...write, generation: first }, sectors(1, 1))))).toBe(unknownSession);
  });
});
