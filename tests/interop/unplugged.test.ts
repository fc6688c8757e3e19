/**
 * A device that is unplugged while it is served: every request fails, including those in flight;
 * the server and its other exports continue. Users of the device (Farbus's own initiator, and
 * independent clients behind `farbus attach`) get errors and do not hang.
 */
import { closeSync, openSync, readdirSync, readlinkSync, realpathSync, truncateSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { Filter, type BlockRequest } from '../../src/block/filters/filter.js';
import { exportUri } from '../../src/export/nbd/address.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { socketCalls } from '../../src/linux/sockets.node.js';
import { listenOn } from '../../src/network/listen.node.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { openPath } from '../../src/storage/open.node.js';
import { ask, entered, received, write } from '../support/nbd-client.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { requestBytes } from '../unit/nbd-target-peer.js';
import { farbus } from './farbus.js';

const MiB = 1 << 20;
const EIO = 5;

/**
 * A device that can be unplugged: then requests in flight and new ones fail, like system calls on
 * such a device.
 */
class Pluggable extends Filter {
  /** While set, requests stay in flight. */
  slow = false;
  inFlight = 0;
  #pulled = false;
  #failures: (() => void)[] = [];
  readonly #code: string;

  constructor(code: 'ENODEV' | 'ENXIO') {
    super(new MemoryDevice(MiB));
    this.#code = code;
  }

  pull(): void {
    this.#pulled = true;
    for (const fail of this.#failures.splice(0)) fail();
  }

  override refresh(): Promise<void> {
    return this.#pulled ? Promise.reject(this.#gone) : Promise.resolve();
  }

  protected override async around<T>(_request: BlockRequest, pass: () => Promise<T>): Promise<T> {
    if (this.#pulled) throw this.#gone;
    this.inFlight++;
    if (this.slow) await new Promise<void>((_, reject) => this.#failures.push(() => reject(this.#gone)));
    return pass();
  }

  get #gone(): Error {
    return Object.assign(new Error(`no such device: ${this.#code}`), { code: this.#code });
  }
}

const [read, flush, trim, zero] = [0, 3, 4, 6];

/** Sends every kind of request to `socket`. Resolves with the errors. */
async function errorsOf(socket: Socket): Promise<Record<string, number>> {
  return {
    read: await ask(socket, read, 4096, 4096),
    write: await write(socket, 0, new Uint8Array(512)),
    'write through': await write(socket, 0, new Uint8Array(512), 1),
    'long write': await write(socket, 0, new Uint8Array(1 << 18)),
    flush: await ask(socket, flush),
    trim: await ask(socket, trim, 0, 4096),
    zeroes: await ask(socket, zero, 0, 4096),
  };
}
const all = (error: number) =>
  Object.fromEntries(
    ['read', 'write', 'write through', 'long write', 'flush', 'trim', 'zeroes'].map((what) => [what, error]),
  );

let where: { path: string };
let server: Server;
beforeEach(async () => {
  where = { path: join(tempFolder(), 'nbd.sock') };
  server = new Server(new Exports(), silent);
  server.exports.add({ name: 'other', device: new MemoryDevice(MiB) });
  server.add(
    await listenOn(where, server.accept, (error) => {
      throw error;
    }),
  );
});
afterEach(() => server.drain());

function offer<T extends BlockDevice>(device: T): T {
  server.exports.add({ name: 'disk', device, metered: true });
  return device;
}

async function otherWorks(): Promise<void> {
  const socket = await entered(where, 'other');
  expect(await write(socket, 0, new Uint8Array(512))).toBe(0);
  expect(await ask(socket, flush)).toBe(0);
  socket.destroy();
}

describe.each(['ENODEV', 'ENXIO'] as const)('a device that has been unplugged (%s)', (code) => {
  it('gives an error to each request, also those in flight, and the server continues', async () => {
    const device = offer(new Pluggable(code));
    const socket = await entered(where, 'disk');
    expect(await write(socket, 0, new Uint8Array(512))).toBe(0);
    device.slow = true;
    const before = device.inFlight;
    for (const command of [read, flush, zero]) {
      socket.write(requestBytes({ command, length: command === flush ? 0 : 512 }));
    }
    socket.write(requestBytes({ command: 1, data: new Uint8Array(512) }));
    while (device.inFlight < before + 4) await new Promise((resolve) => setImmediate(resolve));
    device.pull();
    const replies = await received(socket, 4 * 16);
    expect([0, 1, 2, 3].map((index) => replies.readUInt32BE(16 * index + 4))).toEqual([EIO, EIO, EIO, EIO]);
    expect(await errorsOf(socket)).toEqual(all(EIO));
    await otherWorks();
    // A new client is admitted: the device may be plugged in again.
    const late = await entered(where, 'disk');
    expect(await errorsOf(late)).toEqual(all(EIO));
    expect(socket.destroyed).toBe(false);
    for (const one of [socket, late]) one.destroy();
  });
});

describe('clients of a device that has been unplugged', () => {
  it('get errors at once, although the initiator would wait long for a lost connection', async () => {
    const device = offer(new Pluggable('ENODEV'));
    const far = await openNbd(exportUri(where, 'disk'), { reconnectSeconds: 3600 });
    device.slow = true;
    const waiting = [
      far.read(0, buffersOf(new Uint8Array(512))),
      far.write(0, buffersOf(new Uint8Array(512))),
      far.flush(),
    ];
    const outcomes = Promise.allSettled(waiting);
    while (device.inFlight < 3) await new Promise((resolve) => setImmediate(resolve));
    device.pull();
    const failed = { status: 'rejected', reason: { kind: 'io' } };
    expect(await outcomes).toMatchObject([failed, failed, failed]);
    await expect(far.read(0, buffersOf(new Uint8Array(512)))).rejects.toMatchObject({ kind: 'io' });
    await expect(far.write(0, buffersOf(new Uint8Array(512)))).rejects.toMatchObject({ kind: 'io' });
    await expect(far.flush()).rejects.toMatchObject({ kind: 'io' });
    await far.close();
    await otherWorks();
  });

  it.skipIf(missing('nbdcopy') || missing('qemu-io'))('behind farbus attach get errors and end', async () => {
    const device = offer(new Pluggable('ENODEV'));
    const attach = ['attach', exportUri(where, 'disk'), '--reconnect', '3600', '--'];
    device.pull();
    const copy = await farbus(...attach, 'nbdcopy', '{nbd}', 'null:');
    expect(copy.code).toBe(1);
    expect(copy.stderr).toMatch(/Input\/output error/);
    const commands = ['read 0 4k', 'write 0 4k', 'flush'].flatMap((command) => ['-c', command]);
    const io = await farbus(...attach, 'qemu-io', '-f', 'raw', ...commands, '{nbd}');
    expect(io.stdout + io.stderr).toMatch(/read failed: Input\/output error/);
    expect(io.stdout + io.stderr).toMatch(/write failed: Input\/output error/);
    await otherWorks();
  });
});

/**
 * Replaces the descriptor of our file by one whose every access fails with the kernel's EIO: the
 * first page of this process, which is not mapped (proc(5), /proc/pid/mem).
 */
const withoutKoffi = fileCalls() === undefined;
describe.skipIf(withoutKoffi)('a descriptor that the kernel answers with EIO', () => {
  it.each([true, false])('gives only errors (system calls of our own: %s)', async (own) => {
    const path = tempPath('disk.img');
    writeFileSync(path, '');
    truncateSync(path, MiB);
    offer(await openPath(path, { native: own }));
    const socket = await entered(where, 'disk');
    expect(await ask(socket, flush)).toBe(0);
    const bad = openSync('/proc/self/mem', 'r+');
    const real = realpathSync(path);
    for (const fd of readdirSync('/proc/self/fd')) {
      if (target(`/proc/self/fd/${fd}`) === real) socketCalls('').dup2(bad, Number(fd));
    }
    closeSync(bad);
    const errors = await errorsOf(socket);
    expect(errors).toMatchObject({ read: EIO, write: EIO, 'write through': EIO, 'long write': EIO });
    // Such a descriptor supports neither of these.
    expect(errors['flush']).not.toBe(0);
    expect(errors['zeroes']).not.toBe(0);
    await otherWorks();
    socket.destroy();
  });
});

function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}
