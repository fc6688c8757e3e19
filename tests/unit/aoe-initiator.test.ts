/**
 * The AoE initiator on a hub: cuts, restarts, late copies of writes, aborts, and forged answers.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import { connectAoe, type AoeInitiator, type AoeOptions } from '../../src/protocol/aoe/initiator/initiator.js';
import { broadcastMac } from '../../src/network/ethernet/mac.js';
import { AoeCommand, AtaArgument, AtaFlag, ReserveArgument, ReserveCommand } from '../../src/protocol/aoe/spec.js';
import { putHeader, tagOf } from '../../src/protocol/aoe/wire.js';
import { AoeTarget, type AoeTargetOptions } from '../../src/protocol/aoe/target/target.js';
import { MemoryDevice } from '../../src/storage/memory.js';

const size = 1 << 20;
const at = { shelf: 1, slot: 2 };
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Setup {
  readonly hub: Hub;
  readonly disk: MemoryDevice;
  target: AoeTarget;
  readonly device: AoeInitiator;
  readonly states: string[];
}

async function setUp(
  options: { initiator?: Partial<AoeOptions>; target?: Partial<AoeTargetOptions>; disk?: MemoryDevice } = {},
): Promise<Setup> {
  const hub = new Hub({ mtu: 9000 });
  const disk = options.disk ?? new MemoryDevice(size);
  const target = new AoeTarget(hub, disk, { ...at, ...options.target });
  const states: string[] = [];
  const device = await connectAoe(hub, { ...at, onState: (state) => states.push(state), ...options.initiator });
  closing.push(() => hub.close());
  closing.push(() => device.close());
  return { hub, disk, target, device, states };
}

const fill = (value: number, length = 4096): Buffers => buffersOf(new Uint8Array(length).fill(value));
async function firstByte(device: AoeInitiator | MemoryDevice, offset = 0): Promise<number> {
  const bytes = new Uint8Array(512);
  await device.read(offset, buffersOf(bytes));
  return bytes[0]!;
}
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Records every write frame that passes a hub, unchanged. */
function recordWrites(hub: Hub): Uint8Array[] {
  const writes: Uint8Array[] = [];
  hub.attach({
    promiscuous: true,
    onFrame: (frame) => {
      const isRequest = frame[14] === 0x10 && frame[19] === 0;
      if (isRequest && frame[AtaArgument.flags]! & AtaFlag.write) writes.push(frame.slice());
    },
  });
  return writes;
}

describe('an AoE initiator', () => {
  it('identifies the disk, and recognises a Farbus target', async () => {
    const { device } = await setUp({ target: { readOnly: true } });
    expect(device.info).toMatchObject({
      size,
      blockSize: 512,
      preferredSize: 4096,
      readOnly: true,
      identity: 'aoe:1.2@hub',
    });
    expect(device.info.can).toMatchObject({ flush: true, fua: true, trim: false });
    expect(device.hasSession).toBe(true);
    await expect(connectAoe(new Hub(), { ...at, connectSeconds: 0.05 })).rejects.toThrow(/no answer/);
  });

  it('survives a cut under load: no request fails, every byte is right', async () => {
    const { hub, device, states } = await setUp();
    const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 7 + (index >> 9)) & 0xff);
    const write = device.write(0, buffersOf(bytes));
    hub.cut = true;
    await sleep(5000);
    hub.cut = false;
    await write;
    const back = new Uint8Array(size);
    await device.read(0, buffersOf(back));
    expect(Buffer.compare(back, bytes)).toBe(0);
    expect(states).toEqual(['connected', 'reconnecting', 'connected']);
  });

  it('gives a command that was under way in a long outage or sleep its time again', async () => {
    const slow = new FaultFilter(new MemoryDevice(size));
    const hub = new Hub({ mtu: 9000 });
    const states: string[] = [];
    const options = { ...at, commandSeconds: 300, onState: (state: string) => states.push(state) };
    new AoeTarget(hub, slow, at);
    const device = await connectAoe(hub, options);
    closing.push(
      () => hub.close(),
      () => device.close(),
    );
    const rule = slow.add({ on: ['read'], action: 'stall', count: 1 });
    const now = performance.now.bind(performance);
    let passed = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now() + passed);
    try {
      hub.cut = true;
      const read = device.read(0, fill(0)).then(
        () => 'read',
        (error: Error) => error.message,
      );
      await sleep(50);
      passed = 400_000;
      for (let i = 0; i < 500 && states.at(-1) !== 'reconnecting'; i++) await sleep(20);
      hub.cut = false;
      for (let i = 0; i < 500 && rule.hits === 0; i++) await sleep(20);
      // Longer than the time after which the command is sent again.
      await sleep(500);
      slow.release();
      expect(await read).toBe('read');
    } finally {
      vi.restoreAllMocks();
    }
  });

  it('fails with "unreachable" after the reconnect time, then at once, and works again later', async () => {
    // The only block by which the disk could be recognised is in doubt after the cut.
    const { hub, device, disk, states } = await setUp({ initiator: { reconnectSeconds: 0.3 } });
    await device.write(0, fill(1));
    hub.cut = true;
    await expect(device.write(0, fill(2))).rejects.toMatchObject({ kind: 'unreachable' });
    await expect(device.read(0, fill(0))).rejects.toMatchObject({ kind: 'unreachable' });
    hub.cut = false;
    for (let i = 0; i < 200 && states.at(-1) !== 'connected'; i++) await sleep(20);
    await device.write(0, fill(3));
    expect(await firstByte(disk)).toBe(3);
    expect(states).toEqual(['connected', 'reconnecting', 'lost', 'connected']);
  });

  it('no copy of a cancelled write lands later: a new session supersedes the old one', async () => {
    const { hub, device, disk, target } = await setUp({ initiator: { reconnectSeconds: 0.2 } });
    const writes = recordWrites(hub);
    hub.faults({ delayMs: 6000 });
    await expect(device.write(0, fill(1))).rejects.toMatchObject({ kind: 'unreachable' });
    hub.faults(undefined);
    for (let i = 0; i < 200; i++) {
      if (
        await device.write(0, fill(2)).then(
          () => true,
          () => false,
        )
      )
        break;
      await sleep(20);
    }
    const copies = writes.length;
    // Wait until the late copies have arrived.
    await sleep(2500);
    expect(writes.length).toBeGreaterThan(copies);
    expect(await firstByte(disk)).toBe(2);
    expect(target.counters.bytesWritten).toBe(4096);
  });

  it('no copy of an answered write lands later, from any sender', async () => {
    const { hub, device, disk } = await setUp();
    const writes = recordWrites(hub);
    await device.write(0, fill(1));
    await device.write(0, fill(2));
    const replay = hub.attach({ onFrame: () => undefined });
    replay.send(writes[0]!);
    await sleep(20);
    expect(await firstByte(disk)).toBe(2);
    expect(await firstByte(device)).toBe(2);
  });

  it.each([true, false])('no copy of a write that was refused lands later (sessions: %s)', async (sessions) => {
    const { hub, device, disk } = await setUp({ target: { sessions }, initiator: { frameLifetimeMs: 300 } });
    const writes = recordWrites(hub);
    const other = hub.attach({ onFrame: () => undefined });
    const reserve = (macs: readonly Uint8Array[]): void => {
      const frame = new Uint8Array(60);
      putHeader(frame, broadcastMac, other.mac, { ...at, command: AoeCommand.reserve, tag: 1 });
      frame.set([ReserveCommand.force, macs.length, ...macs.flatMap((mac) => [...mac])], ReserveArgument.command);
      other.send(frame);
    };
    reserve([other.mac]);
    await expect(device.write(0, fill(1))).rejects.toThrow(/reserved/);
    const copy = writes[0]!;
    reserve([]);
    const newer = device.write(0, fill(2));
    await sleep(100);
    // Send the copy while the newer write may still wait, and again after it.
    other.send(copy);
    await newer;
    if (sessions) other.send(copy);
    await sleep(20);
    expect(await firstByte(disk)).toBe(2);
  });

  it('with a foreign target waits until copies of a repeated write must be gone', async () => {
    const disk = new MemoryDevice(size);
    const { hub, device } = await setUp({ disk, target: { sessions: false }, initiator: { frameLifetimeMs: 400 } });
    expect(device.hasSession).toBe(false);
    const writes = recordWrites(hub);
    hub.cut = true;
    const first = device.write(0, fill(1, 512));
    await sleep(350);
    hub.cut = false;
    await first;
    const repeated = performance.now();
    await device.write(512, fill(3, 512));
    await device.write(0, fill(2, 512));
    expect(performance.now() - repeated).toBeGreaterThan(250);
    const copies = writes.filter((frame) => frame[AtaArgument.size] === 1);
    expect(new Set(copies.map(tagOf)).size).toBe(1);
    expect(await firstByte(disk)).toBe(2);
  });

  it('finds a target that was restarted; writes that it had not flushed make the next flush fail, once', async () => {
    const setup = await setUp();
    const { hub, device, disk } = setup;
    await device.write(0, fill(1));
    await device.flush();
    await device.write(4096, fill(2));
    await setup.target.close();
    setup.target = new AoeTarget(hub, disk, at);
    await device.write(8192, fill(3));
    await expect(device.flush()).rejects.toThrow(/target was restarted: 1 writes .* may be lost/);
    await device.flush();
    await setup.target.close();
    setup.target = new AoeTarget(hub, disk, at);
    await device.flush();
    expect(await firstByte(disk, 8192)).toBe(3);
  });

  it('refuses another disk at the same address', async () => {
    const setup = await setUp();
    const { hub, device } = setup;
    await setup.target.close();
    const other = new AoeTarget(hub, new MemoryDevice(2 * size), at);
    await expect(device.read(0, fill(0))).rejects.toThrow(/the target changed: 4096 sectors instead of 2048/);
    await other.close();
    new AoeTarget(hub, new MemoryDevice(size), at);
    for (let i = 0; i < 100; i++) {
      if (
        await device.read(0, fill(0)).then(
          () => true,
          () => false,
        )
      )
        break;
      await sleep(20);
    }
    await device.read(0, fill(0));
  });

  it('recognises its disk by its world wide name, whatever its content is', async () => {
    const named = (file: string, letter: number): MemoryDevice =>
      new MemoryDevice(new Uint8Array(size).fill(letter), { marks: { file } });
    const setup = await setUp({ disk: named('1:2', 1) });
    const { hub, device } = setup;
    await device.read(0, fill(0));
    await setup.target.close();
    const twin = new AoeTarget(hub, named('1:3', 1), at);
    await expect(device.read(0, fill(0))).rejects.toThrow(/the target changed: another disk .* world wide name/);
    await twin.close();
    new AoeTarget(hub, named('1:2', 9), at);
    await expect.poll(() => firstByte(device).catch(() => undefined), { timeout: 10_000 }).toBe(9);
  });

  it('waits for a slow disk, and no write is executed twice', async () => {
    const hub = new Hub({ mtu: 9000 });
    const disk = new MemoryDevice(size);
    const slow = new FaultFilter(disk, [{ on: ['write'], action: 'stall', count: 1 }]);
    const target = new AoeTarget(hub, slow, at);
    const device = await connectAoe(hub, at);
    closing.push(() => hub.close());
    closing.push(() => device.close());
    const write = device.write(0, fill(1));
    await expect.poll(() => device.counters.repeated, { timeout: 10_000 }).toBeGreaterThan(2);
    expect(slow.stalled).toBe(1);
    slow.release();
    await write;
    expect(target.counters.bytesWritten).toBe(4096);
  });

  it('a request that is cancelled while the target is away settles at once, and has no later effect', async () => {
    const { hub, device, disk, states } = await setUp();
    await device.write(0, fill(1));
    hub.cut = true;
    const control = new AbortController();
    const write = device.write(0, fill(2), { signal: control.signal });
    write.catch(() => undefined);
    for (let i = 0; i < 300 && states.at(-1) !== 'reconnecting'; i++) await sleep(20);
    control.abort();
    await expect(write).rejects.toMatchObject({ kind: 'aborted' });
    hub.cut = false;
    await device.write(4096, fill(3));
    await sleep(100);
    expect(await firstByte(disk)).toBe(1);
  });

  it('settles every request on a segment that flips bits, and reads right data after that', async () => {
    const { hub, device } = await setUp();
    hub.faults({ flips: 0.05, truncation: 0.02, duplication: 0.05, seed: 5 });
    const requests: Promise<unknown>[] = [];
    for (let at = 0; at < size; at += 4096) requests.push(device.write(at, fill(1)), device.read(at, fill(0)));
    const settled = await Promise.allSettled(requests);
    expect(settled.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(requests.length / 2);
    hub.faults(undefined);
    await device.write(0, fill(7, size));
    const all = new Uint8Array(size);
    await device.read(0, buffersOf(all));
    expect(all.every((byte) => byte === 7)).toBe(true);
  });

  it('accepts only whole answers of its target to its own commands', async () => {
    const { hub, device, target } = await setUp({ disk: new MemoryDevice(Uint8Array.from({ length: size }, () => 7)) });
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 66);
    // An eavesdropper answers every request before the target can: with its own address, or with
    // the target's address but truncated.
    const forger = hub.attach({
      mac,
      promiscuous: true,
      onFrame: (frame) => {
        if (frame[14] !== 0x10 || frame[19] !== 0) return;
        const forged = new Uint8Array(36 + 4096);
        forged.set(frame.subarray(0, 36));
        forged.set(frame.subarray(6, 12));
        forged.set(mac, 6);
        forged[14] = 0x18;
        forged[27] = 0x40;
        forger.send(forged);
        forged.set(target.mac, 6);
        forger.send(forged.subarray(0, 100));
        forged[14] = 0x28;
        forger.send(forged);
      },
    });
    for (let i = 0; i < 50; i++) expect(await firstByte(device, i * 4096)).toBe(7);
    expect(device.counters.malformed).toBeGreaterThan(50);
    forger.close();
  });

  it("accepts no answer with another tag, even a whole one from its target's address", async () => {
    const { hub, device, target } = await setUp({ disk: new MemoryDevice(Uint8Array.from({ length: size }, () => 7)) });
    let forged = 0;
    const forger = hub.attach({
      mac: Uint8Array.of(2, 0, 0, 0, 0, 66),
      promiscuous: true,
      onFrame: (frame) => {
        if (frame[14] !== 0x10 || frame[19] !== 0) return;
        const tag = new DataView(frame.buffer, frame.byteOffset).getUint32(20);
        // Tags shortly before and after the right one, its complement, and one that matches no
        // request.
        for (const other of [tag - 1, tag + 1, tag + 2 ** 31, ~tag, 0].filter((one) => one >>> 0 !== tag)) {
          const answer = new Uint8Array(36 + 4096);
          answer.set(frame.subarray(0, 36));
          answer.set(frame.subarray(6, 12));
          answer.set(target.mac, 6);
          answer[14] = 0x18;
          answer[27] = 0x40;
          new DataView(answer.buffer).setUint32(20, other);
          forger.send(answer);
          forged++;
        }
      },
    });
    for (let i = 0; i < 50; i++) expect(await firstByte(device, i * 4096)).toBe(7);
    expect(forged).toBeGreaterThan(150);
    forger.close();
  });
});
