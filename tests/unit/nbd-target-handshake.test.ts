import { afterEach, describe, expect, it, vi } from 'vitest';
import { Info, Option, OptionReply, TransmissionFlag } from '../../src/protocol/nbd/spec.js';
import { Handshake } from '../../src/protocol/nbd/target/handshake.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { exportsOf, infoData, join, metaData, optionBytes, Peer, requestBytes, text, view } from './nbd-target-peer.js';
import { u32 } from '../support/numbers.js';

const size = 1 << 20;
const disks = () =>
  exportsOf({ first: new MemoryDevice(size), second: new MemoryDevice(2 * size, { readOnly: true }) });
const session = '01234567-89ab-cdef-0123-456789abcdef';

function last(answers: readonly { type: number }[]): number {
  return answers.at(-1)!.type;
}

describe('the handshake of the NBD target', () => {
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  it.each([1, 2, 3, 7, 16, 17, 1000])('takes options in pieces of %i bytes', async (pieces) => {
    const peer = new Peer(disks());
    peer.pieces = pieces;
    const answers = await peer.enter('second');
    expect(view(answers[0]!.data).getBigUint64(2)).toBe(BigInt(2 * size));
    expect((await peer.ask({ command: 0, offset: 512, length: 1024 })).data).toEqual(new Uint8Array(1024));
    peer.target.destroy();
  });

  it('goes from the handshake to requests within one chunk', async () => {
    const peer = new Peer(disks());
    await peer.read(18);
    const disconnect = new Uint8Array(28);
    view(disconnect).setUint32(0, 0x25609513);
    view(disconnect).setUint16(6, 2);
    await peer.send(join([u32(3), optionBytes(Option.go, infoData('', [])), disconnect]));
    await peer.target.finished;
    expect(peer.stream.ended).toBe(true);
  });

  it('takes requests after an export that was opened first, even if the answer leaves late, as over TLS', async () => {
    const device = Object.assign(new MemoryDevice(size), { refresh: () => Promise.resolve() });
    const peer = new Peer(exportsOf({ one: device }));
    await peer.greet();
    peer.stream.blocked = true;
    const go = peer.option(Option.go, infoData('one', []));
    // The answer was written to the stream, which has not taken it.
    await new Promise((resolve) => setImmediate(resolve));
    expect(peer.stream.pending).toBeGreaterThan(0);
    peer.stream.unblock();
    expect(last(await go)).toBe(OptionReply.ack);
    expect((await peer.ask({ command: 0, offset: 512, length: 1024 })).data).toEqual(new Uint8Array(1024));
    peer.target.destroy();
  });

  it('ends the connection if a phase consumes nothing and does not wait', async () => {
    vi.spyOn(Handshake.prototype, 'receive').mockImplementation((_chunk, at) => at);
    const peer = new Peer(disks());
    await peer.read(18);
    await peer.send(u32(3));
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it('takes requests in the chunk that chooses an export that must be opened first', async () => {
    const device = Object.assign(new MemoryDevice(size), { refresh: () => Promise.resolve() });
    const peer = new Peer(exportsOf({ one: device }));
    await peer.read(18);
    const read = requestBytes({ command: 0, length: 512 });
    await peer.send(join([u32(3), optionBytes(Option.go, infoData('one', [])), read]));
    expect((await peer.optionAnswer(Option.go)).type).toBe(OptionReply.info);
    expect((await peer.optionAnswer(Option.go)).type).toBe(OptionReply.ack);
    expect((await peer.reply({ command: 0, length: 512 })).data).toEqual(new Uint8Array(512));
    peer.target.destroy();
  });

  it('lists exports with their descriptions', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    const answers = await peer.option(Option.list);
    expect(answers.map(({ type }) => type)).toEqual([OptionReply.server, OptionReply.server, OptionReply.ack]);
    expect(text(answers[0]!.data.subarray(4))).toBe('firstthe disk first');
    expect(last(await peer.option(Option.list, u32(1)))).toBe(OptionReply.errInvalid);
    peer.target.destroy();
  });

  it('informs about an export and stays in the handshake', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    const answers = await peer.option(Option.info, infoData('', [Info.name, Info.description, Info.blockSize, 77]));
    const infos = new Map(answers.slice(0, -1).map(({ data }) => [view(data).getUint16(0), data]));
    expect(last(answers)).toBe(OptionReply.ack);
    expect(text(infos.get(Info.name)!.subarray(2))).toBe('first');
    expect(text(infos.get(Info.description)!.subarray(2))).toBe('the disk first');
    const sizes = view(infos.get(Info.blockSize)!);
    expect([sizes.getUint32(2), sizes.getUint32(6), sizes.getUint32(10)]).toEqual([512, 4096, 32 << 20]);
    expect(last(await peer.option(Option.info, infoData('nowhere', [])))).toBe(OptionReply.errUnknown);
    expect(last(await peer.option(Option.go, infoData('first', [])))).toBe(OptionReply.ack);
    peer.target.destroy();
  });

  it("advertises exactly the device's abilities", async () => {
    const can = { flush: false, fua: false, trim: false, writeZeroes: false, extents: false, multiConnection: false };
    const peer = new Peer(exportsOf({ plain: new MemoryDevice(size, { can, rotational: true }) }));
    await peer.greet();
    const flagsOf = async (name: string) =>
      view((await peer.option(Option.info, infoData(name, [])))[0]!.data).getUint16(10);
    const { hasFlags, rotational, sendCache, sendWriteZeroes, sendFastZero, sendDf } = TransmissionFlag;
    const expected = hasFlags | rotational | sendCache | sendWriteZeroes | sendFastZero;
    expect(await flagsOf('plain')).toBe(expected);
    await peer.option(Option.structuredReply);
    expect(await flagsOf('plain')).toBe(expected | sendDf);
    peer.target.destroy();
  });

  it('offers no writing on a read-only export', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    const flags = view((await peer.option(Option.info, infoData('second', [])))[0]!.data).getUint16(10);
    expect(flags & TransmissionFlag.readOnly).toBeTruthy();
    expect(flags & (TransmissionFlag.sendTrim | TransmissionFlag.sendWriteZeroes)).toBe(0);
    peer.target.destroy();
  });

  it('serves NBD_OPT_EXPORT_NAME with and without zeroes, and hangs up on a wrong name', async () => {
    for (const [flags, length] of [
      [3, 10],
      [1, 134],
    ] as const) {
      const peer = new Peer(disks());
      await peer.greet(flags);
      await peer.send(optionBytes(Option.exportName, new TextEncoder().encode('first')));
      expect(view(await peer.read(length)).getBigUint64(0)).toBe(BigInt(size));
      expect((await peer.ask({ command: 0, length: 512 })).error).toBe(0);
      peer.target.destroy();
    }
    const peer = new Peer(disks());
    await peer.greet();
    await peer.send(optionBytes(Option.exportName, new TextEncoder().encode('nowhere')));
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it('answers an abort and closes', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    expect(last(await peer.option(Option.abort, u32(7)))).toBe(OptionReply.ack);
    await peer.target.finished;
    expect(peer.stream.ended).toBe(true);
  });

  it('refuses unknown options, and continues', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    for (const option of [Option.starttls, 0, 4, 99, 0xffffffff]) {
      expect(last(await peer.option(option, u32(1)))).toBe(OptionReply.errUnsupported);
    }
    expect(last(await peer.option(Option.go, infoData('', [])))).toBe(OptionReply.ack);
    peer.target.destroy();
  });

  it('answers malformed data of an option with an error, and continues', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    await peer.option(Option.structuredReply);
    const name = infoData('first', []);
    const bad = [
      new Uint8Array(0),
      u32(1),
      join([u32(0xffffffff), name]),
      name.subarray(0, name.length - 1),
      join([name, u32(0)]),
      infoData('nul\0', []),
      join([u32(2), new Uint8Array([0xff, 0xfe]), new Uint8Array(2)]),
      infoData('x'.repeat(5000), []),
    ];
    for (const data of bad) {
      expect(last(await peer.option(Option.info, data))).toBe(OptionReply.errInvalid);
      expect(last(await peer.option(Option.go, data))).toBe(OptionReply.errInvalid);
    }
    const meta = metaData('first', ['base:allocation']);
    for (const data of [u32(0), meta.subarray(0, 20), join([meta, u32(0)]), metaData('', ['nocolon'])]) {
      expect(last(await peer.option(Option.setMetaContext, data))).toBe(OptionReply.errInvalid);
    }
    const huge = join([u32(0), u32(0xffffffff), new Uint8Array(100)]);
    expect(last(await peer.option(Option.setMetaContext, huge))).toBe(OptionReply.errInvalid);
    expect(last(await peer.option(Option.go, name))).toBe(OptionReply.ack);
    peer.target.destroy();
  });

  it('skips the data of an oversized option, and hangs up on an absurd one', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    expect(last(await peer.option(Option.list, new Uint8Array(1 << 20)))).toBe(OptionReply.errTooBig);
    expect(last(await peer.option(Option.list))).toBe(OptionReply.ack);
    const header = optionBytes(Option.list, new Uint8Array(0));
    view(header).setUint32(12, 0xffffffff);
    await peer.send(header);
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it.each([
    ['unknown client flags', [u32(0x80000003)]],
    ['a wrong magic', [u32(3), new Uint8Array(16)]],
    ['a request instead of an option', [u32(3), new Uint8Array(28).fill(0x25)]],
  ])('hangs up on %s', async (_, parts) => {
    const peer = new Peer(disks());
    await peer.read(18);
    await peer.send(join(parts));
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
  });

  it('bounds the number of options', async () => {
    const peer = new Peer(disks(), { maxOptions: 3 });
    await peer.greet();
    for (let i = 0; i < 3; i++) await peer.option(Option.list);
    await expect(peer.option(Option.list)).rejects.toThrow('closed');
  });

  it('limits the time of a handshake, not of a session', async () => {
    vi.useFakeTimers();
    const peer = new Peer(disks(), { handshakeMs: 5000 });
    await peer.greet();
    await vi.advanceTimersByTimeAsync(4000);
    expect(peer.closed).toBe(false);
    await vi.advanceTimersByTimeAsync(2000);
    await peer.target.finished;
    expect(peer.stream.destroyed).toBe(true);
    const other = new Peer(disks(), { handshakeMs: 5000 });
    await other.enter();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(other.closed).toBe(false);
    other.target.destroy();
  });

  it.each(['an option', 'a choice of contexts with a session'])('gives no more time for %s', async (what) => {
    vi.useFakeTimers();
    const peer = new Peer(disks(), { handshakeMs: 5000 });
    await peer.greet();
    await peer.option(Option.structuredReply);
    const ask = (): Promise<unknown> =>
      what === 'an option'
        ? peer.option(Option.list)
        : peer.option(Option.setMetaContext, metaData('first', [`farbus:session/${session}`]));
    for (let passed = 0; passed < 4000; passed += 1000) {
      expect(last((await ask()) as { type: number }[])).toBe(OptionReply.ack);
      await vi.advanceTimersByTimeAsync(1000);
    }
    await vi.advanceTimersByTimeAsync(1500);
    expect(peer.stream.destroyed).toBe(true);
  });

  it('does not count the time that a device needs to report its length, but limits it', async () => {
    vi.useFakeTimers();
    const device = Object.assign(new MemoryDevice(size), { refresh: () => new Promise<void>(() => undefined) });
    const peer = new Peer(exportsOf({ one: device }), { handshakeMs: 5000, handshakeWorkMs: 8000 });
    await peer.greet();
    await peer.send(optionBytes(Option.go, infoData('one', [])));
    await vi.advanceTimersByTimeAsync(7000);
    expect(peer.stream.destroyed).toBe(false);
    await vi.advanceTimersByTimeAsync(2000);
    expect(peer.stream.destroyed).toBe(true);
  });

  it('stops reading options while the client does not read replies', async () => {
    const peer = new Peer(disks());
    await peer.greet();
    peer.stream.blocked = true;
    peer.stream.events!.data(join([optionBytes(Option.list, new Uint8Array(0)), optionBytes(99, new Uint8Array(0))]));
    expect(peer.stream.paused).toBe(true);
    const before = peer.stream.pending;
    expect(before).toBeGreaterThan(0);
    peer.stream.blocked = false;
    peer.stream.unblock();
    expect(peer.stream.paused).toBe(false);
    for (let i = 0; i < 3; i++) await peer.optionAnswer(Option.list);
    expect((await peer.optionAnswer(99)).type).toBe(OptionReply.errUnsupported);
    peer.target.destroy();
  });

  describe('metadata contexts', () => {
    it('need structured replies', async () => {
      const peer = new Peer(disks());
      await peer.greet();
      const data = metaData('', ['base:allocation']);
      expect(last(await peer.option(Option.setMetaContext, data))).toBe(OptionReply.errInvalid);
      expect(last(await peer.option(Option.listMetaContext, data))).toBe(OptionReply.errInvalid);
      peer.target.destroy();
    });

    it('are listed by wildcard and name, chosen by name', async () => {
      const peer = new Peer(disks(), {});
      await peer.greet();
      await peer.option(Option.structuredReply);
      const names = async (option: number, queries: string[]) =>
        (await peer.option(option, metaData('', queries))).slice(0, -1).map(({ data }) => text(data.subarray(4)));
      expect(await names(Option.listMetaContext, [])).toEqual([
        'base:allocation',
        'farbus:session/',
        'farbus:identity',
        'farbus:reader',
      ]);
      expect(await names(Option.listMetaContext, ['base:'])).toEqual(['base:allocation']);
      expect(await names(Option.listMetaContext, ['qemu:dirty-bitmap:x', 'base:none'])).toEqual([]);
      expect(await names(Option.setMetaContext, ['base:'])).toEqual([]);
      expect(await names(Option.setMetaContext, ['other:x', 'base:allocation'])).toEqual(['base:allocation']);
      expect(last(await peer.option(Option.setMetaContext, metaData('nowhere', [])))).toBe(OptionReply.errUnknown);
      peer.target.destroy();
    });

    it('report the state of the server with a session, and ignore malformed UUIDs', async () => {
      const peer = new Peer(exportsOf({ disk: new MemoryDevice(size) }, 'boot-1'));
      await peer.greet();
      await peer.option(Option.structuredReply);
      const queries = ['farbus:session/', 'farbus:session/none', `farbus:session/${session}`];
      const answers = await peer.option(Option.setMetaContext, metaData('disk', queries));
      expect(answers.map(({ type }) => type)).toEqual([OptionReply.metaContext, OptionReply.ack]);
      expect(text(answers[0]!.data.subarray(4))).toBe(`farbus:session/${session}/boot-1`);
      peer.target.destroy();
    });

    it('are void for another export, and after a failed choice', async () => {
      const peer = new Peer(disks());
      await peer.greet();
      await peer.option(Option.structuredReply);
      await peer.option(Option.setMetaContext, metaData('second', ['base:allocation']));
      await peer.option(Option.go, infoData('first', []));
      expect((await peer.ask({ command: 7, length: 512 })).error).toBe(22);
      peer.target.destroy();
      const other = new Peer(disks());
      await other.greet();
      await other.option(Option.structuredReply);
      await other.option(Option.setMetaContext, metaData('first', ['base:allocation']));
      await other.option(Option.setMetaContext, u32(1));
      await other.option(Option.go, infoData('first', []));
      expect((await other.ask({ command: 7, length: 512 })).error).toBe(22);
      other.target.destroy();
    });
  });
});
