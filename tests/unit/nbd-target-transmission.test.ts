import { describe, expect, it } from 'vitest';
import type { Buffers } from '../../src/base/buffers.js';
import type { Extent, WriteOptions, ZeroOptions } from '../../src/block/device.js';
import { BlockError, type BlockErrorKind } from '../../src/block/errors.js';
import { NbdCommand, CommandFlag, NbdError, ReplyType } from '../../src/protocol/nbd/spec.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { GateDevice } from './nbd-target-gate.js';
import { exportsOf, join, Peer, requestBytes, text, view } from './nbd-target-peer.js';

const size = 1 << 20;

function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 13 + (i >> 8)) & 0xff);
}

async function connect(
  device: MemoryDevice,
  options: { structured?: boolean; contexts?: string[] } = {},
): Promise<Peer> {
  const peer = new Peer(exportsOf({ disk: device }));
  await peer.enter('disk', options);
  return peer;
}

describe.each([true, false])('requests on the NBD target (structured replies: %s)', (structured) => {
  it.each([1, 3, 28, 29, 64, 4096, 1 << 20])('are read in pieces of %i bytes', async (pieces) => {
    const content = new Uint8Array(size);
    const peer = await connect(new MemoryDevice(content), { structured });
    peer.pieces = pieces;
    const data = pattern(2048);
    const messages: Uint8Array[] = [];
    for (let i = 0; i < 8; i++) {
      messages.push(
        requestBytes({ command: NbdCommand.write, offset: i * 4096, data: data.map((b) => b ^ i), cookie: BigInt(i) }),
      );
    }
    await peer.send(join(messages));
    for (let i = 0; i < 8; i++) {
      expect((await peer.reply({ command: NbdCommand.write, cookie: BigInt(i) })).error).toBe(0);
      expect(content.subarray(i * 4096, i * 4096 + 2048)).toEqual(data.map((b) => b ^ i));
    }
    const read = await peer.ask({ command: NbdCommand.read, offset: 512, length: 8192 });
    expect(read.data).toEqual(content.subarray(512, 512 + 8192));
    peer.target.destroy();
  });

  it('of every size return the right bytes', async () => {
    const content = pattern(4 << 20);
    const peer = await connect(new MemoryDevice(content), { structured });
    for (const length of [512, 4096, 65024, 65536, 66048, 131072, 1 << 20, (1 << 20) + 512, 3 << 20]) {
      const offset = 512 * 3;
      const read = await peer.ask({
        command: NbdCommand.read,
        offset,
        length: Math.min(length, content.length - offset),
      });
      expect(Buffer.compare(read.data, content.subarray(offset, offset + length))).toBe(0);
    }
    peer.target.destroy();
  });

  it('may be empty', async () => {
    const peer = await connect(new MemoryDevice(size), { structured });
    for (const command of [
      NbdCommand.read,
      NbdCommand.write,
      NbdCommand.trim,
      NbdCommand.writeZeroes,
      NbdCommand.cache,
    ]) {
      expect(await peer.ask({ command, offset: 512 })).toMatchObject({ error: 0, data: new Uint8Array(0) });
    }
    peer.target.destroy();
  });

  it('with all commands do what they say', async () => {
    const content = pattern(size);
    const peer = await connect(new MemoryDevice(content), { structured });
    const ok = async (fields: Parameters<Peer['ask']>[0]) => expect((await peer.ask(fields)).error).toBe(0);
    await ok({
      command: NbdCommand.writeZeroes,
      offset: 4096,
      length: 4096,
      flags: CommandFlag.noHole | CommandFlag.fua,
    });
    expect(content.subarray(4096, 8192).every((byte) => byte === 0)).toBe(true);
    expect(content[4095]).not.toBe(0);
    await ok({ command: NbdCommand.trim, offset: 8192, length: 512, flags: CommandFlag.fua });
    await ok({ command: NbdCommand.write, offset: size - 512, data: pattern(512, 9), flags: CommandFlag.fua });
    expect(content.subarray(size - 512)).toEqual(pattern(512, 9));
    await ok({ command: NbdCommand.flush });
    await ok({ command: NbdCommand.flush, flags: CommandFlag.fua });
    await ok({ command: NbdCommand.cache, offset: 0, length: size });
    await ok({ command: NbdCommand.read, length: 512, flags: CommandFlag.fua });
    peer.target.destroy();
  });

  const wrong: [string, number, Parameters<Peer['ask']>[0]][] = [
    ['a read past the end', NbdError.invalid, { command: NbdCommand.read, offset: size - 512, length: 1024 }],
    ['a read far past the end', NbdError.invalid, { command: NbdCommand.read, offset: 2n ** 64n - 512n, length: 512 }],
    ['a write past the end', NbdError.noSpace, { command: NbdCommand.write, offset: size, data: new Uint8Array(512) }],
    ['zeroes past the end', NbdError.noSpace, { command: NbdCommand.writeZeroes, offset: size - 512, length: 1024 }],
    ['a trim past the end', NbdError.invalid, { command: NbdCommand.trim, offset: size, length: 512 }],
    ['an unaligned read past the end', NbdError.invalid, { command: NbdCommand.read, offset: size - 3, length: 4 }],
    [
      'an unaligned write past the end',
      NbdError.noSpace,
      { command: NbdCommand.write, offset: size - 1, data: new Uint8Array(2) },
    ],
    ['an unknown command', NbdError.invalid, { command: 99, offset: 0, length: 512 }],
    ['a resize', NbdError.invalid, { command: NbdCommand.resize, offset: 512, length: 0 }],
    ['an unknown flag', NbdError.invalid, { command: NbdCommand.read, length: 512, flags: 1 << 9 }],
    [
      'a flag of another command',
      NbdError.invalid,
      { command: NbdCommand.read, length: 512, flags: CommandFlag.noHole },
    ],
    ['a flush with a range', NbdError.invalid, { command: NbdCommand.flush, length: 512 }],
    ['block status without a context', NbdError.invalid, { command: NbdCommand.blockStatus, length: 512 }],
  ];
  it.each(wrong)('with wrong arguments are refused: %s', async (_, error, fields) => {
    const peer = await connect(new MemoryDevice(size), { structured });
    const reply = await peer.ask(fields);
    expect(reply.error).toBe(error);
    expect(reply.text !== '').toBe(structured);
    expect((await peer.ask({ command: NbdCommand.read, length: 512 })).error).toBe(0);
    peer.target.destroy();
  });

  it('that are too long are refused without their data being kept', async () => {
    const peer = await connect(new MemoryDevice(64 << 20), { structured });
    const long = (32 << 20) + 512;
    const read = await peer.ask({ command: NbdCommand.read, length: long });
    expect(read.error).toBe(structured ? NbdError.overflow : NbdError.invalid);
    await peer.request({ command: NbdCommand.write, length: long });
    expect((await peer.reply({ command: NbdCommand.write })).error).toBe(NbdError.invalid);
    const piece = new Uint8Array(1 << 20);
    for (let i = 0; i < 32; i++) await peer.send(piece);
    await peer.send(new Uint8Array(512));
    expect((await peer.ask({ command: NbdCommand.read, length: 512 })).error).toBe(0);
    await peer.request({ command: NbdCommand.write, length: 0xfffffe00 });
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it('never change a read-only export', async () => {
    const content = new Uint8Array(size);
    const exports = exportsOf({});
    exports.add({ name: 'disk', device: new MemoryDevice(content), readOnly: true });
    const peer = new Peer(exports);
    await peer.enter('disk', { structured });
    for (const command of [NbdCommand.trim, NbdCommand.writeZeroes]) {
      expect((await peer.ask({ command, length: 512 })).error).toBe(NbdError.perm);
    }
    expect((await peer.ask({ command: NbdCommand.write, data: pattern(4096) })).error).toBe(NbdError.perm);
    expect((await peer.ask({ command: NbdCommand.read, length: 4096 })).data).toEqual(new Uint8Array(4096));
    expect(content.every((byte) => byte === 0)).toBe(true);
    peer.target.destroy();
  });

  it('that are no requests end the connection', async () => {
    const peer = await connect(new MemoryDevice(size), { structured });
    await peer.send(new Uint8Array(28).fill(0x42));
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  const kinds: [BlockErrorKind, number][] = [
    ['io', NbdError.io],
    ['no-space', NbdError.noSpace],
    ['read-only', NbdError.perm],
    ['range', NbdError.invalid],
    ['unsupported', NbdError.invalid],
    ['unreachable', NbdError.io],
    ['no-medium', NbdError.io],
    ['closed', NbdError.shutdown],
  ];
  it.each(kinds)('that the device fails with %s are answered so', async (kind, error) => {
    class Faulty extends MemoryDevice {
      protected override async doRead(): Promise<void> {
        throw new BlockError(kind, 'a test wants\nit so');
      }
      protected override doWrite(offset: number, from: Buffers): Promise<void> {
        return offset === 0 ? this.doRead() : super.doWrite(offset, from);
      }
      protected override doFlush(): Promise<void> {
        return this.doRead();
      }
    }
    const peer = await connect(new Faulty(size), { structured });
    for (const fields of [
      { command: NbdCommand.read, length: 4096 },
      { command: NbdCommand.write, data: new Uint8Array(4096) },
      { command: NbdCommand.flush },
    ]) {
      const reply = await peer.ask(fields);
      expect(reply.error).toBe(error);
      expect(reply.text).toBe(structured ? 'a test wants it so' : '');
    }
    expect((await peer.ask({ command: NbdCommand.write, offset: 512, data: new Uint8Array(4096) })).error).toBe(0);
    peer.target.destroy();
  });

  it('give ENOTSUP for fast zeroes only if the device has none', async () => {
    class Slow extends MemoryDevice {
      protected override doWriteZeroes(_offset: number, _length: number, _options?: ZeroOptions): Promise<void> {
        return Promise.reject(new BlockError('unsupported', 'not here'));
      }
    }
    const content = pattern(size);
    const peer = await connect(new Slow(content), { structured });
    const zero = { command: NbdCommand.writeZeroes, length: 8192 };
    expect((await peer.ask({ ...zero, flags: CommandFlag.fastZero })).error).toBe(NbdError.notSupported);
    expect(content.subarray(0, 8192)).toEqual(pattern(8192));
    expect((await peer.ask(zero)).error).toBe(0);
    expect(content.subarray(0, 8192)).toEqual(new Uint8Array(8192));
    peer.target.destroy();
  });

  it('are answered in the order in which they finish', async () => {
    const device = new GateDevice(size);
    const peer = await connect(device, { structured });
    await peer.request({ command: NbdCommand.read, length: 512, cookie: 1n });
    await peer.request({ command: NbdCommand.read, offset: 512, length: 512, cookie: 0xffff_ffff_ffff_ffffn });
    await device.arrived(2);
    device.waiting[1]!.go();
    expect((await peer.reply({ command: 0, length: 512, cookie: 0xffff_ffff_ffff_ffffn })).error).toBe(0);
    device.waiting[0]!.go();
    expect((await peer.reply({ command: 0, length: 512, cookie: 1n })).error).toBe(0);
    peer.target.destroy();
  });

  it('are finished before a disconnect', async () => {
    const device = new GateDevice(size);
    const peer = await connect(device, { structured });
    await peer.request({ command: NbdCommand.write, data: pattern(512), cookie: 5n });
    await peer.request({ command: NbdCommand.disconnect });
    await device.arrived(1);
    expect(peer.closed).toBe(false);
    device.release();
    expect((await peer.reply({ command: NbdCommand.write, cookie: 5n })).error).toBe(0);
    await peer.target.finished;
    expect(peer.stream.ended).toBe(true);
  });
});

describe('structured replies of the NBD target', () => {
  it('do not fragment if the client forbids it', async () => {
    const peer = await connect(new MemoryDevice(pattern(size)));
    const reply = await peer.ask({ command: NbdCommand.read, length: size, flags: CommandFlag.df });
    expect(reply.chunks.filter(({ type }) => type === ReplyType.offsetData)).toHaveLength(1);
    expect(Buffer.compare(reply.data, pattern(size))).toBe(0);
    peer.target.destroy();
  });

  it('refuse the flag DF without structured replies', async () => {
    const peer = await connect(new MemoryDevice(size), { structured: false });
    expect((await peer.ask({ command: 0, length: 512, flags: CommandFlag.df })).error).toBe(NbdError.invalid);
    peer.target.destroy();
  });

  it('tell holes from data', async () => {
    class Holes extends MemoryDevice {
      protected override async doExtents(offset: number, length: number): Promise<readonly Extent[]> {
        const extents: Extent[] = [];
        // Pages 0 and 1 are data, 2 and 3 a hole, and so on. One extent for each page.
        for (let at = offset - (offset % 4096); at < offset + length; at += 4096) {
          const hole = ((at / 4096) & 2) !== 0;
          extents.push({ offset: at, length: 4096, hole, zero: hole });
        }
        return extents;
      }
    }
    const can = { flush: true, fua: true, trim: true, writeZeroes: true, extents: true, multiConnection: true };
    const peer = await connect(new Holes(size, { can }), { contexts: ['base:allocation'] });
    const status = async (offset: number, length: number, flags = 0) => {
      const { chunks } = await peer.ask({ command: NbdCommand.blockStatus, offset, length, flags });
      expect(chunks).toHaveLength(1);
      const data = view(chunks[0]!.data);
      expect(data.getUint32(0)).toBe(1);
      const list: number[][] = [];
      for (let at = 4; at < data.byteLength; at += 8) list.push([data.getUint32(at), data.getUint32(at + 4)]);
      return list;
    };
    expect(await status(512, 16384)).toEqual([
      [7680, 0],
      [8192, 3],
      [512, 0],
    ]);
    expect(await status(512, 16384, CommandFlag.reqOne)).toEqual([[7680, 0]]);
    expect(await status(8192, 512, CommandFlag.reqOne)).toEqual([[512, 3]]);
    expect((await peer.ask({ command: NbdCommand.blockStatus, offset: size, length: 512 })).error).toBe(
      NbdError.invalid,
    );
    expect((await peer.ask({ command: NbdCommand.blockStatus, length: 0 })).error).toBe(NbdError.invalid);
    peer.target.destroy();
  });

  it('have one chunk for each context', async () => {
    const contexts = ['base:allocation', 'farbus:session/01234567-89ab-cdef-0123-456789abcdef'];
    const peer = await connect(new MemoryDevice(size), { contexts });
    const { chunks } = await peer.ask({ command: NbdCommand.blockStatus, length: 4096 });
    expect(chunks.map(({ data }) => view(data).getUint32(0)).sort()).toEqual([1, 2]);
    peer.target.destroy();
  });
});

describe('the bounds of a connection', () => {
  it('hold for requests in flight', async () => {
    const device = new GateDevice(size);
    const peer = new Peer(exportsOf({ disk: device }), { maxRequests: 4 });
    await peer.enter('disk');
    const many = Array.from({ length: 10 }, (_, i) => requestBytes({ command: 0, length: 512, cookie: BigInt(i) }));
    peer.stream.events!.data(join(many));
    await device.arrived(4);
    expect(device.waiting).toHaveLength(4);
    expect(peer.stream.paused).toBe(true);
    device.release();
    for (let i = 0; i < 10; i++) await peer.reply({ command: 0, length: 512, cookie: BigInt(i) });
    expect(peer.stream.paused).toBe(false);
    peer.target.destroy();
  });

  it('hold for bytes in flight, and a single request may exceed them', async () => {
    const device = new GateDevice(size);
    const peer = new Peer(exportsOf({ disk: device }), { maxBytes: 10_000 });
    await peer.enter('disk');
    const write = (cookie: bigint) => ({ command: NbdCommand.write, data: pattern(8192, Number(cookie)), cookie });
    peer.stream.events!.data(join([1n, 2n, 3n].map((cookie) => requestBytes(write(cookie)))));
    await device.arrived(1);
    expect(device.waiting).toHaveLength(1);
    expect(peer.stream.paused).toBe(true);
    device.release();
    for (const cookie of [1n, 2n, 3n]) expect((await peer.reply(write(cookie))).error).toBe(0);
    const all = await peer.ask({ command: NbdCommand.read, length: size });
    expect(all.data.length).toBe(size);
    expect(all.data.subarray(0, 8192)).toEqual(pattern(8192, 3));
    peer.target.destroy();
  });

  it('hold for the memory of commands without data', async () => {
    const device = new GateDevice(size);
    const peer = new Peer(exportsOf({ disk: device }), { maxBytes: 3 * size });
    await peer.enter('disk');
    const many = Array.from({ length: 10 }, () => requestBytes({ command: NbdCommand.cache, length: size }));
    peer.stream.events!.data(join(many));
    await device.arrived(3);
    expect(device.waiting).toHaveLength(3);
    expect(peer.stream.paused).toBe(true);
    device.release();
    for (let i = 0; i < 10; i++) expect((await peer.reply({ command: NbdCommand.cache })).error).toBe(0);
    peer.target.destroy();
  });

  it('make a client that does not read its replies wait, alone', async () => {
    const content = pattern(size);
    const exports = exportsOf({ disk: new MemoryDevice(content) });
    const limits = { maxBytes: 100_000 };
    const lazy = new Peer(exports, limits);
    const busy = new Peer(exports, limits);
    await lazy.enter('disk');
    await busy.enter('disk');
    lazy.stream.blocked = true;
    const requests = Array.from({ length: 100 }, (_, i) => ({
      command: 0,
      offset: i * 512,
      length: 10_240,
      cookie: BigInt(i),
    }));
    lazy.stream.events!.data(join(requests.map(requestBytes)));
    for (let i = 0; i < 50; i++) {
      const read = await busy.ask({ command: 0, offset: i * 512, length: 10_240 });
      expect(Buffer.compare(read.data, content.subarray(i * 512, i * 512 + 10_240))).toBe(0);
    }
    expect(lazy.stream.paused).toBe(true);
    expect(lazy.stream.pending).toBeLessThan(110_000);
    lazy.stream.unblock();
    for (const request of requests) {
      const { data } = await lazy.reply(request);
      expect(Buffer.compare(data, content.subarray(request.offset, request.offset + 10_240))).toBe(0);
    }
    lazy.target.destroy();
    busy.target.destroy();
  });

  it('end a connection whose stream does not stop', async () => {
    const device = new GateDevice(size);
    const peer = new Peer(exportsOf({ disk: device }), { maxRequests: 1 });
    await peer.enter('disk');
    const flood = join(Array.from({ length: 1000 }, () => requestBytes({ command: 0, length: 512 })));
    for (let i = 0; i < 200 && !peer.closed; i++) peer.stream.events!.data(flood);
    expect(peer.closed).toBe(true);
    device.release();
    await peer.target.finished;
  });
});

describe('a draining NBD target', () => {
  it('answers requests in flight, refuses new ones, and closes', async () => {
    const device = new GateDevice(size);
    const peer = await connect(device);
    const write = { command: NbdCommand.write, data: pattern(512), cookie: 1n };
    await peer.request(write);
    await device.arrived(1);
    peer.target.drain();
    const late = await peer.ask({ command: NbdCommand.read, length: 512, cookie: 2n });
    expect(late.error).toBe(NbdError.shutdown);
    expect(peer.closed).toBe(false);
    device.release();
    expect((await peer.reply(write)).error).toBe(0);
    await peer.target.finished;
    expect(peer.stream.ended).toBe(true);
  });

  it('closes an idle connection at once, and one in the handshake soon', async () => {
    const peer = await connect(new MemoryDevice(size));
    peer.target.drain();
    await peer.target.finished;
    const shaking = new Peer(exportsOf({ disk: new MemoryDevice(size) }));
    await shaking.greet();
    shaking.target.drain();
    const answers = await shaking.option(3);
    expect(text(answers[0]!.data)).toContain('shut down');
    await shaking.target.finished;
    expect(shaking.stream.ended).toBe(true);
  });

  it('does not begin a write whose data is still coming', async () => {
    const content = new Uint8Array(size);
    const peer = await connect(new MemoryDevice(content));
    await peer.send(requestBytes({ command: NbdCommand.write, data: pattern(4096) }).subarray(0, 1000));
    peer.target.drain();
    await peer.target.finished;
    expect(content.every((byte) => byte === 0)).toBe(true);
  });
});

describe('a client that vanishes', () => {
  it('in the middle of a write leaves no part of it', async () => {
    const content = new Uint8Array(size);
    const peer = await connect(new MemoryDevice(content));
    await peer.send(requestBytes({ command: NbdCommand.write, data: pattern(4096) }).subarray(0, 3000));
    peer.stream.close();
    await peer.target.finished;
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  it('is released when its requests have been cancelled', async () => {
    const device = new GateDevice(size);
    device.heedsAbort = true;
    const peer = await connect(device);
    await peer.request({ command: NbdCommand.write, data: pattern(512) });
    await device.arrived(1);
    peer.stream.close();
    await peer.target.finished;
  });

  it('still has its FUA and flush passed to the device', async () => {
    const calls: string[] = [];
    class Recorder extends MemoryDevice {
      protected override doWrite(offset: number, from: Buffers, options: WriteOptions = {}): Promise<void> {
        calls.push(options.fua ? 'write fua' : 'write');
        return super.doWrite(offset, from);
      }
      protected override async doFlush(): Promise<void> {
        calls.push('flush');
      }
    }
    const peer = await connect(new Recorder(size));
    await peer.ask({ command: NbdCommand.write, data: pattern(512) });
    await peer.ask({ command: NbdCommand.write, data: pattern(512), flags: CommandFlag.fua });
    await peer.ask({ command: NbdCommand.flush });
    expect(calls).toEqual(['write', 'write fua', 'flush']);
    peer.target.destroy();
  });
});
