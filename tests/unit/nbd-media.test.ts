/** A removable medium over NBD: our target with our initiator, and the view of other clients. */
import { afterEach, describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import { ExchangeableDrive } from '../../src/block/exchangeable-drive.js';
import type { BlockDevice } from '../../src/block/device.js';
import { Exports, type ExportOptions } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { connectNbd, type NbdOptions } from '../../src/protocol/nbd/initiator/initiator.js';
import { NbdCommand, MediaAction, NbdError, Option } from '../../src/protocol/nbd/spec.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { GatedDisk } from '../support/gated-disk.js';
import { memoryDialer, type MemoryStream } from '../support/stream-pair.js';
import { exportsOf, infoData, metaData, Peer, text } from './nbd-target-peer.js';
import { until } from '../support/event-loop.js';

const facts = { identity: 'drive', readOnly: false, rotational: false, blockSize: 512 };
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

function disc(value: number, size = 64 << 10): MemoryDevice {
  return new MemoryDevice(new Uint8Array(size).fill(value));
}

function served(drive: BlockDevice, options: Partial<ExportOptions> = {}) {
  const exports = new Exports();
  exports.add({ name: 'drive', device: drive, ...options });
  const server = new Server(exports, silent);
  open.push(() => server.drain(100));
  const streams: MemoryStream[] = [];
  const dialer = memoryDialer((stream) => {
    streams.push(stream);
    server.accept(stream);
  });
  const connect = async (more: NbdOptions = {}) => {
    const device = await connectNbd(dialer, { reconnectSeconds: 5, ...more });
    open.push(() => device.close());
    return device;
  };
  return { server, streams, connect };
}

/**
 * Resolves with the name of the next medium in `device`; with `empty`, resolves with '' when the
 * drive is empty.
 */
function next({ media }: BlockDevice, empty = false): Promise<string> {
  return new Promise((resolve) => {
    const end = media!.watch(() => {
      if ((media!.medium === '') !== empty) return;
      end();
      resolve(media!.medium);
    });
  });
}

function first(device: BlockDevice, medium: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(512).fill(0xc3);
  return device.read(0, buffersOf(bytes), { medium }).then(() => bytes);
}

describe('a medium over NBD', () => {
  test('an empty drive, a medium that comes, is exchanged, and goes', async () => {
    const drive = new ExchangeableDrive(facts);
    const { connect } = served(drive);
    const device = await connect();
    expect(device.info).toMatchObject({ size: 0, removable: true });
    expect(device.media!.medium).toBe('');
    await expectKind('no-medium', readBytes(device, 0, 512));

    const comes = next(device);
    drive.insert(disc(1));
    const one = await comes;
    expect(one).toBe(drive.media.medium);
    expect(device.info.size).toBe(64 << 10);
    expect((await first(device, one))[511]).toBe(1);
    // A caller that names no medium means the first one; the drive was empty then.
    await expectKind('no-medium', readBytes(device, 0, 512));

    const exchanged = next(device);
    await drive.remove();
    drive.insert(disc(2, 1 << 20));
    await expectKind('no-medium', first(device, one));
    const two = await exchanged;
    expect(two).not.toBe(one);
    expect(device.info.size).toBe(1 << 20);
    expect((await first(device, two))[0]).toBe(2);

    const goes = next(device, true);
    await drive.remove();
    expect(await goes).toBe('');
    expect(device.info.size).toBe(0);
  });

  test('is ejected by the client, unless another one holds it', async () => {
    const drive = new ExchangeableDrive(facts, disc(1));
    const { connect } = served(drive);
    const [one, other] = [await connect(), await connect()];
    const { medium } = drive.media;
    await other.media!.lock(true, { medium });
    expect(drive.locked).toBe(true);
    await expectKind('read-only', one.media!.eject({ medium }));
    expect(drive.loaded).toBe(true);
    await other.close();
    const gone = next(one, true);
    await one.media!.lock(true, { medium });
    await one.media!.eject({ medium });
    expect(drive.loaded).toBe(false);
    expect(await gone).toBe('');
    await expectKind('no-medium', one.media!.eject({ medium }));
  });

  test('a lock is renewed on a new connection, and ends with the last one', async () => {
    const drive = new ExchangeableDrive(facts, disc(1));
    const { connect, streams } = served(drive);
    const device = await connect();
    await device.media!.lock(true);
    streams.at(-1)!.destroy();
    await readBytes(device, 0, 512);
    expect(drive.locked).toBe(true);
    await device.close();
    await until(() => !drive.locked);
  });

  test('only the writing client may eject if one writes at a time', async () => {
    const drive = new ExchangeableDrive(facts, disc(1));
    const { connect } = served(drive, { oneWriter: 'read-only' });
    const [writer, reader] = [await connect(), await connect()];
    expect(reader.info.readOnly).toBe(true);
    await expectKind('read-only', writeBytes(reader, 0, new Uint8Array(512)));
    await expectKind('read-only', reader.media!.eject());
    await writer.media!.eject();
    expect(drive.loaded).toBe(false);
  });

  test('a write for the old medium never reaches the new one', async () => {
    const old = new GatedDisk(64 << 10);
    const drive = new ExchangeableDrive(facts, old);
    const { connect, streams } = served(drive);
    const device = await connect();
    const { medium } = drive.media;
    const held = writeBytes(device, 0, new Uint8Array(4096).fill(7), { medium });
    await until(() => old.waiting.length === 1);
    // Cut the connection, so that the write would be sent again; meanwhile the medium has changed.
    const fresh = disc(2);
    await drive.remove();
    drive.insert(fresh);
    streams.at(-1)!.destroy();
    await expectKind('no-medium', held);
    await expectKind('no-medium', writeBytes(device, 0, new Uint8Array(4096).fill(7), { medium }));
    expect((await readBytes(fresh, 0, 4096)).every((byte) => byte === 2)).toBe(true);
  });

  test('the same medium after a lost connection is no other', async () => {
    const drive = new ExchangeableDrive(facts, disc(1));
    const { connect, streams } = served(drive);
    const device = await connect();
    let told = 0;
    device.media!.watch(() => told++);
    streams.at(-1)!.destroy();
    expect((await readBytes(device, 0, 512))[0]).toBe(1);
    expect(told).toBe(0);
  });

  test('without a reconnect time the next medium is still found', async () => {
    const drive = new ExchangeableDrive(facts, disc(1));
    const { connect } = served(drive);
    const device = await connect({ reconnectSeconds: 0 });
    const another = next(device);
    await drive.remove();
    drive.insert(disc(9));
    expect((await first(device, await another))[0]).toBe(9);
  });

  test('other clients see plain NBD, and an error where the medium has changed', async () => {
    const drive = new ExchangeableDrive(facts, disc(1));
    const peer = new Peer(exportsOf({ disk: drive }));
    await peer.enter('disk', { contexts: ['base:allocation'] });
    expect((await peer.ask({ command: NbdCommand.media, offset: MediaAction.eject })).error).toBe(NbdError.invalid);
    expect(drive.loaded).toBe(true);
    await drive.remove();
    const fresh = disc(2);
    drive.insert(fresh);
    const refused = await peer.ask({ command: NbdCommand.write, data: new Uint8Array(512).fill(7) });
    expect(refused.error).toBe(NbdError.io);
    expect((await peer.ask({ command: NbdCommand.read, length: 512 })).error).toBe(NbdError.io);
    expect((await readBytes(fresh, 0, 512))[0]).toBe(2);
    peer.target.destroy();
  });

  test('only drives with a medium have the context; unknown actions are refused', async () => {
    const disk = new Peer(exportsOf({ disk: disc(1) }));
    await disk.greet();
    await disk.option(Option.structuredReply);
    const named = (names: string[]) => names.filter((name) => name.startsWith('farbus:media'));
    const list = await disk.option(Option.listMetaContext, metaData('disk', []));
    expect(named(list.map(({ data }) => text(data.subarray(4))))).toEqual([]);
    disk.target.destroy();

    const drive = new ExchangeableDrive(facts, disc(1));
    const peer = new Peer(exportsOf({ disk: drive }));
    await peer.greet();
    await peer.option(Option.structuredReply);
    const chosen = await peer.option(Option.setMetaContext, metaData('disk', ['farbus:media']));
    expect(named(chosen.map(({ data }) => text(data.subarray(4))))).toEqual([`farbus:media/${drive.media.medium}`]);
    await peer.option(Option.go, infoData('disk', []));
    const ask = async (offset: number, more = {}) =>
      (await peer.ask({ command: NbdCommand.media, offset, ...more })).error;
    expect(await ask(MediaAction.check)).toBe(0);
    expect(await ask(4)).toBe(NbdError.invalid);
    expect(await ask(MediaAction.check, { length: 1 })).toBe(NbdError.invalid);
    expect(await ask(MediaAction.eject, { flags: 1 })).toBe(NbdError.invalid);
    expect(await ask(MediaAction.lock)).toBe(0);
    expect(await ask(MediaAction.eject)).toBe(NbdError.perm);
    expect(await ask(MediaAction.unlock)).toBe(0);
    expect(await ask(MediaAction.eject)).toBe(0);
    expect(await ask(MediaAction.check)).toBe(NbdError.noMedium);
    expect((await peer.ask({ command: NbdCommand.read, length: 512 })).error).toBe(NbdError.noMedium);
    peer.target.destroy();
  });
});
