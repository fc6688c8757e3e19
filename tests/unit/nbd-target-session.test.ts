import { describe, expect, it } from 'vitest';
import { Exports } from '../../src/export/exports.js';
import { NbdCommand, Option, OptionReply } from '../../src/protocol/nbd/spec.js';
import { SessionRegistry } from '../../src/block/sessions.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { GateDevice } from './nbd-target-gate.js';
import { exportsOf, infoData, metaData, Peer, requestBytes, text } from './nbd-target-peer.js';

const size = 1 << 20;
const session = 'farbus:session/01234567-89ab-cdef-0123-456789abcdef';
const other = 'farbus:session/fedcba98-89ab-cdef-0123-456789abcdef';

function block(value: number): Uint8Array {
  return new Uint8Array(4096).fill(value);
}

/** Does the handshake up to the selection of the session, without waiting for the answer. */
async function choose(peer: Peer, name = session): Promise<void> {
  await peer.greet();
  await peer.option(Option.structuredReply);
  const data = metaData('disk', [name]);
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setBigUint64(0, 0x49484156454f5054n);
  view.setUint32(8, Option.setMetaContext);
  view.setUint32(12, data.length);
  await peer.send(header);
  await peer.send(data);
}

/** Waits until everything has happened that does not depend on the device. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

describe('sessions on the NBD target', () => {
  it('let a new connection in only when the writes of the old one have landed', async () => {
    const content = new Uint8Array(size);
    const device = new GateDevice(content);
    const exports = exportsOf({ disk: device });
    const old = new Peer(exports);
    await old.enter('disk', { contexts: [session] });
    await old.request({ command: NbdCommand.write, data: block(1) });
    // The first part of a write that never arrives completely.
    await old.send(requestBytes({ command: NbdCommand.write, offset: 4096, data: block(2) }).subarray(0, 500));
    await device.arrived(1);

    const fresh = new Peer(exports);
    await choose(fresh);
    await settle();
    expect(old.stream.destroyed).toBe(true);
    expect(fresh.stream.received.length).toBe(18 + 20);

    // If the new connection were admitted now, the held write could overtake a repeated one.
    device.release();
    const answer = await fresh.optionAnswer(Option.setMetaContext);
    expect(answer.type).toBe(OptionReply.metaContext);
    expect(content[0]).toBe(1);
    expect((await fresh.optionAnswer(Option.setMetaContext)).type).toBe(OptionReply.ack);
    await fresh.option(Option.go, infoData('disk', []));
    expect((await fresh.ask({ command: NbdCommand.write, data: block(3) })).error).toBe(0);
    await settle();
    expect(content.subarray(0, 4096)).toEqual(block(3));
    expect(content.subarray(4096, 8192)).toEqual(new Uint8Array(4096));
    fresh.target.destroy();
  });

  it('wait also for a connection that was lost before', async () => {
    const device = new GateDevice(size);
    const exports = exportsOf({ disk: device });
    const old = new Peer(exports);
    await old.enter('disk', { contexts: [session] });
    await old.request({ command: NbdCommand.write, data: block(1) });
    await device.arrived(1);
    old.stream.close();
    await settle();
    const fresh = new Peer(exports);
    await choose(fresh);
    await settle();
    expect(fresh.stream.received.length).toBe(18 + 20);
    device.release();
    expect((await fresh.optionAnswer(Option.setMetaContext)).type).toBe(OptionReply.metaContext);
    fresh.target.destroy();
  });

  it('do not run requests that the old connection had sent and that had not begun', async () => {
    const content = new Uint8Array(size);
    const device = new GateDevice(content);
    const exports = exportsOf({ disk: device });
    const old = new Peer(exports, { maxRequests: 1 });
    await old.enter('disk', { contexts: [session] });
    old.stream.events!.data(
      Buffer.concat([
        requestBytes({ command: NbdCommand.write, data: block(1) }),
        requestBytes({ command: NbdCommand.write, offset: 4096, data: block(2) }),
      ]),
    );
    await device.arrived(1);
    const fresh = new Peer(exports);
    await choose(fresh);
    await settle();
    device.release();
    await fresh.optionAnswer(Option.setMetaContext);
    await settle();
    expect(content.subarray(4096, 8192)).toEqual(new Uint8Array(4096));
    fresh.target.destroy();
  });

  it('leave other sessions, other exports and connections without a session alone', async () => {
    const exports = exportsOf({ disk: new MemoryDevice(size), second: new MemoryDevice(size) });
    const peers = [new Peer(exports), new Peer(exports), new Peer(exports)];
    await peers[0]!.enter('disk', { contexts: [other] });
    await peers[1]!.enter('second', { contexts: [session] });
    await peers[2]!.enter('disk');
    const fresh = new Peer(exports);
    await fresh.enter('disk', { contexts: [session.toUpperCase().replace('FARBUS:SESSION', 'farbus:session')] });
    for (const peer of peers) expect((await peer.ask({ command: NbdCommand.read, length: 512 })).error).toBe(0);
    for (const peer of [...peers, fresh]) peer.target.destroy();
  });

  it('take the last of several that come at once', async () => {
    const device = new GateDevice(size);
    const exports = exportsOf({ disk: device });
    const old = new Peer(exports);
    await old.enter('disk', { contexts: [session] });
    await old.request({ command: NbdCommand.write, data: block(1) });
    await device.arrived(1);
    const second = new Peer(exports);
    await choose(second);
    const third = new Peer(exports);
    await choose(third);
    await settle();
    expect(second.closed).toBe(true);
    device.release();
    expect((await third.optionAnswer(Option.setMetaContext)).type).toBe(OptionReply.metaContext);
    await settle();
    expect(third.closed).toBe(false);
    third.target.destroy();
  });

  it('refuse a new connection when the old one does not finish in time', async () => {
    const device = new GateDevice(size);
    const exports = new Exports();
    const added = exports.add({ name: 'disk', device });
    Object.assign(added, { sessions: new SessionRegistry('', 20) });
    const old = new Peer(exports);
    await old.enter('disk', { contexts: [session] });
    await old.request({ command: NbdCommand.write, data: block(1) });
    await device.arrived(1);
    const fresh = new Peer(exports);
    await choose(fresh);
    const answer = await fresh.optionAnswer(Option.setMetaContext);
    expect(answer.type).toBe(OptionReply.errShutdown);
    expect(text(answer.data)).toContain('try again');
    expect((await fresh.option(Option.go, infoData('disk', []))).at(-1)!.type).toBe(OptionReply.errShutdown);
    fresh.target.destroy();
    device.release();
    await old.target.finished;
    const next = new Peer(exports);
    await next.enter('disk', { contexts: [session] });
    next.target.destroy();
  });

  it('end when the client chooses another export', async () => {
    const exports = exportsOf({ disk: new MemoryDevice(size) });
    const first = new Peer(exports);
    await first.greet();
    await first.option(Option.structuredReply);
    await first.option(Option.setMetaContext, metaData('disk', [session]));
    await first.option(Option.setMetaContext, metaData('disk', ['base:allocation']));
    await first.option(Option.go, infoData('disk', []));
    const second = new Peer(exports);
    await second.enter('disk', { contexts: [session] });
    expect((await first.ask({ command: NbdCommand.read, length: 512 })).error).toBe(0);
    first.target.destroy();
    second.target.destroy();
  });
});
