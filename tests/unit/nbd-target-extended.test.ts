/** Extended headers ([EXT]) in the NBD target, with every message as bytes. */
import { describe, expect, it } from 'vitest';
import { NbdCommand, CommandFlag, NbdError, Option, OptionReply, ReplyType } from '../../src/protocol/nbd/spec.js';
import { ExchangeableDrive } from '../../src/block/exchangeable-drive.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { exportsOf, extendedBytes, infoData, join, metaData, optionBytes, Peer, view } from './nbd-target-peer.js';
import { u32, u64 } from '../support/numbers.js';

const size = 1 << 20;
const sizeFlag = 1 << 12;
const session = 'farbus:session/01234567-89ab-4def-8123-456789abcdef';

const { info } = new MemoryDevice(size);
const hugeInfo = { ...info, size: 2 ** 45, can: { ...info.can, extents: true } };

/** A device that reports a size larger than memory, and records trimmed ranges. */
class HugeDevice extends MemoryDevice {
  override readonly info = hugeInfo;
  readonly trimmed: [number, number][] = [];
  readonly zeroed: [number, number][] = [];
  constructor() {
    super(size);
  }
  protected override doTrim(offset: number, length: number): Promise<void> {
    this.trimmed.push([offset, length]);
    return Promise.resolve();
  }
  protected override doWriteZeroes(offset: number, length: number): Promise<void> {
    this.zeroed.push([offset, length]);
    return Promise.resolve();
  }
  protected override doExtents(offset: number, length: number) {
    return Promise.resolve([{ offset, length, hole: true, zero: true }]);
  }
}

async function connect(device = new MemoryDevice(size), contexts: string[] = ['base:allocation']): Promise<Peer> {
  const peer = new Peer(exportsOf({ disk: device }));
  await peer.enter('disk', { extended: true, contexts });
  return peer;
}

describe('extended headers on the NBD target', () => {
  it.each([1, 31, 32, 33, 4096])(
    'are read in pieces of %i bytes, and answered with extended headers',
    async (pieces) => {
      const content = new Uint8Array(size);
      const peer = await connect(new MemoryDevice(content));
      peer.pieces = pieces;
      const data = Uint8Array.from({ length: 2048 }, (_, i) => i * 3);
      expect(await peer.ask({ command: NbdCommand.write, offset: 512, data })).toMatchObject({ error: 0 });
      expect(content.subarray(512, 2560)).toEqual(data);
      const read = await peer.ask({ command: NbdCommand.read, offset: 1024, length: 1024, cookie: 2n ** 64n - 2n });
      expect(read.data).toEqual(data.subarray(512, 1536));
      for (const command of [NbdCommand.flush, NbdCommand.trim, NbdCommand.cache, NbdCommand.writeZeroes]) {
        const { error, chunks } = await peer.ask({ command, length: command === NbdCommand.flush ? 0 : 512 });
        expect([error, chunks.map(({ type }) => type)]).toEqual([0, [ReplyType.none]]);
      }
      peer.target.destroy();
    },
  );

  it('errors repeat the offset of their request exactly, and have a text', async () => {
    const peer = await connect();
    const reply = await peer.ask({ command: NbdCommand.read, offset: 2n ** 64n - 3n, length: 512 });
    expect(reply.error).toBe(NbdError.invalid);
    expect(reply.text).toMatch(/beyond the end/);
    peer.target.destroy();
  });

  it('carry ranges of more than 32 bits', async () => {
    const device = new HugeDevice();
    const peer = await connect(device);
    const length = 2 ** 44 + 4096;
    expect((await peer.ask({ command: NbdCommand.trim, offset: 4096, length })).error).toBe(0);
    expect((await peer.ask({ command: NbdCommand.writeZeroes, offset: 8192, length })).error).toBe(0);
    expect([device.trimmed, device.zeroed]).toEqual([[[4096, length]], [[8192, length]]]);
    const { chunks } = await peer.ask({ command: NbdCommand.blockStatus, offset: 4096, length });
    expect(chunks).toHaveLength(1);
    expect(chunks[0]!.type).toBe(ReplyType.blockStatusExtended);
    expect(chunks[0]!.data).toEqual(join([u32(1), u32(1), u64(length), u64(3)]));
    const beyond = await peer.ask({ command: NbdCommand.blockStatus, offset: 4096, length: 2n ** 63n });
    expect(beyond.error).toBe(NbdError.invalid);
    peer.target.destroy();
  });

  it('a read of more than the maximum payload is refused, not truncated', async () => {
    const peer = await connect(new HugeDevice());
    const reply = await peer.ask({ command: NbdCommand.read, offset: 0, length: 2 ** 40 });
    expect(reply.error).toBe(NbdError.overflow);
    peer.target.destroy();
  });

  it('block status of some contexts', async () => {
    const peer = new Peer(exportsOf({ disk: new MemoryDevice(size) }, 'life'));
    const answers = await peer.enter('disk', { extended: true, contexts: ['base:allocation', session] });
    expect(view(answers[0]!.data).getUint16(10) & sizeFlag).toBe(sizeFlag);
    const ask = (length: number, ...ids: number[]) =>
      peer.ask({ command: NbdCommand.blockStatus, data: join([u64(length), ...ids.map(u32)]) });
    const idsOf = async (length: number, ...ids: number[]) =>
      (await ask(length, ...ids)).chunks.map(({ data }) => view(data).getUint32(0));
    expect((await peer.ask({ command: NbdCommand.blockStatus, length: 4096 })).chunks).toHaveLength(2);
    expect(await idsOf(4096, 1)).toEqual([1]);
    expect(await idsOf(4096, 2)).toEqual([2]);
    expect(await idsOf(4096, 2, 1)).toEqual([2, 1]);
    expect((await ask(4096)).error).toBe(0);
    for (const [length, ...ids] of [
      [4096, 3],
      [4096, 1, 1],
      [4096, 1, 2, 1],
      [0, 1],
      [size + 512, 1],
    ]) {
      expect((await ask(length!, ...ids)).error).toBe(NbdError.invalid);
    }
    for (const data of [new Uint8Array(7), new Uint8Array(1), new Uint8Array(100_000)]) {
      expect((await peer.ask({ command: NbdCommand.blockStatus, data })).error).toBe(NbdError.invalid);
    }
    // The reader has not lost its place in the stream.
    expect((await peer.ask({ command: NbdCommand.read, length: 512 })).data).toHaveLength(512);
    peer.target.destroy();
  });

  it('block status of every context', async () => {
    const drive = new ExchangeableDrive(
      { identity: '', readOnly: false, rotational: false, blockSize: 512 },
      new MemoryDevice(size),
    );
    const peer = new Peer(exportsOf({ disk: drive }, 'life'));
    const contexts = ['base:allocation', session, 'farbus:media', 'farbus:identity'];
    await peer.enter('disk', { extended: true, contexts });
    const ids = [4, 3, 2, 1];
    const { chunks } = await peer.ask({ command: NbdCommand.blockStatus, data: join([u64(4096), ...ids.map(u32)]) });
    expect(chunks.map(({ data }) => view(data).getUint32(0))).toEqual(ids);
    peer.target.destroy();
  });

  it('the filter is offered only where contexts were chosen', async () => {
    const peer = new Peer(exportsOf({ disk: new MemoryDevice(size) }));
    const flags = (answers: { data: Uint8Array }[]) => view(answers[0]!.data).getUint16(10) & sizeFlag;
    await peer.greet();
    expect(flags(await peer.option(Option.info, infoData('disk', [])))).toBe(0);
    await peer.option(Option.extendedHeaders);
    expect(flags(await peer.option(Option.info, infoData('disk', [])))).toBe(sizeFlag);
    expect(flags(await peer.option(Option.go, infoData('disk', [])))).toBe(0);
    peer.extended = true;
    const reply = await peer.ask({ command: NbdCommand.blockStatus, data: join([u64(4096), u32(1)]) });
    expect(reply.error).toBe(NbdError.invalid);
    peer.target.destroy();
  });

  it('unexpected payloads are refused and skipped', async () => {
    const peer = await connect();
    for (const command of [NbdCommand.read, NbdCommand.trim, NbdCommand.flush, NbdCommand.cache, 77]) {
      expect((await peer.ask({ command, data: new Uint8Array(1000) })).error).toBe(NbdError.invalid);
    }
    expect((await peer.ask({ command: NbdCommand.read, length: 512 })).data).toHaveLength(512);
    peer.target.destroy();
  });

  const broken: [string, Uint8Array][] = [
    ['a write without the flag for its payload', extendedBytes({ command: NbdCommand.write, length: 512 })],
    [
      'a payload beyond the maximum',
      extendedBytes({ command: 77, flags: CommandFlag.payloadLength, length: 33 << 20 }),
    ],
    ['a payload beyond all', extendedBytes({ command: 1, flags: CommandFlag.payloadLength, length: 2n ** 63n })],
    ['a compact header', join([u32(0x25609513), new Uint8Array(28)])],
  ];
  it.each(broken)('%s ends the connection', async (_what, bytes) => {
    const peer = await connect();
    await peer.send(bytes);
    await peer.target.finished;
    expect(peer.closed).toBe(true);
  });

  it('cannot be taken back in the handshake', async () => {
    const peer = new Peer(exportsOf({ disk: new MemoryDevice(size) }));
    await peer.greet();
    const errorOf = async (option: number, data?: Uint8Array) => (await peer.option(option, data)).at(-1)!.type;
    expect(await errorOf(Option.extendedHeaders, new Uint8Array(1))).toBe(OptionReply.errInvalid);
    expect(await errorOf(Option.setMetaContext, metaData('disk', ['base:allocation']))).toBe(OptionReply.errInvalid);
    expect(await errorOf(Option.extendedHeaders)).toBe(OptionReply.ack);
    expect(await errorOf(Option.structuredReply)).toBe(OptionReply.errExtendedHeadersRequired);
    expect(await errorOf(Option.setMetaContext, metaData('disk', ['base:allocation']))).toBe(OptionReply.ack);
    await peer.send(optionBytes(Option.exportName, new TextEncoder().encode('disk')));
    await peer.target.finished;
    expect(peer.closed).toBe(true);
  });
});
