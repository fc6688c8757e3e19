/**
 * A server loses unflushed writes. Every client that wrote some learns of it by its own flush,
 * regardless of whose flush comes first and which of our servers are in between.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { farbusServe, freeSocket, missing, nbdkit, type NbdPeer } from '../support/nbd-peers.js';
import { writeScript } from '../support/sshd.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

const size = 1 << 20;

function image(): string {
  const path = tempPath('base.img');
  writeFileSync(path, new Uint8Array(size));
  return path;
}

const write = (device: BlockDevice, at: number): Promise<void> =>
  device.write(at, buffersOf(new Uint8Array(65536).fill(0x41)));
const outcome = (flush: Promise<void>): Promise<string> =>
  flush.then(
    () => 'durable',
    (error: Error) => error.message,
  );

/**
 * A server whose unflushed writes are lost with its process, because an overlay's map is in memory.
 */
const losing = (): Promise<NbdPeer> => farbusServe(freeSocket(), 'x', [`x=${image()},overlay=${tempPath('o')}`]);
const gateway = (uri: string): Promise<NbdPeer> => farbusServe(freeSocket(), 'g', [`g=${uri}`]);

describe('a server behind a gateway that loses unflushed writes', () => {
  it('is reported to both clients, and not to a client that connects later', async () => {
    const server = await losing();
    const gate = await gateway(server.uri);
    const [a, b] = [await openNbd(gate.uri), await openNbd(gate.uri)];
    await write(a, 0);
    await write(b, 65536);
    await server.kill();
    await server.start();
    expect(await outcome(a.flush())).toMatch(/lost|input\/output/);
    expect(await outcome(b.flush())).toMatch(/lost|input\/output/);
    expect([await outcome(a.flush()), await outcome(b.flush())]).toEqual(['durable', 'durable']);
    const late = await openNbd(gate.uri);
    expect(await outcome(late.flush())).toBe('durable');
    for (const device of [a, b, late]) await device.close();
    await gate.kill('SIGTERM');
    await server.kill('SIGTERM');
  });

  it('is reported to the client that wrote, although another one flushed first', async () => {
    const server = await losing();
    const gate = await gateway(server.uri);
    const [writer, reader] = [await openNbd(gate.uri), await openNbd(gate.uri)];
    await write(writer, 0);
    await server.kill();
    await server.start();
    await outcome(reader.flush());
    expect(await outcome(writer.flush())).toMatch(/lost|input\/output/);
    await writer.close();
    await reader.close();
    await gate.kill('SIGTERM');
    await server.kill('SIGTERM');
  });
});

describe('a lease that moves while the server behind it is killed', () => {
  it('reports the loss to the client that wrote, and lets the other one write', async () => {
    const server = await losing();
    const gate = await farbusServe(freeSocket(), 'g', [`g=${server.uri}`, '--one-writer']);
    const [first, second] = [await openNbd(gate.uri), await openNbd(gate.uri)];
    await write(first, 0);
    await expect(write(second, 65536)).rejects.toThrow();
    await server.kill();
    await server.start();
    // The take flushes for the first client, and meets the loss.
    const refused = await farbus('status', '--take', 'g');
    expect(refused.stderr).toMatch(/lost/);
    expect(refused.code).not.toBe(0);
    expect((await farbus('status', '--take', 'g')).code).toBe(0);
    expect(await outcome(first.flush())).toMatch(/lost|input\/output/);
    await expect(write(first, 0)).rejects.toThrow();
    await first.close();
    const third = await openNbd(gate.uri);
    await write(third, 65536);
    expect(await outcome(third.flush())).toBe('durable');
    for (const device of [second, third]) await device.close();
    await gate.kill('SIGTERM');
    await server.kill('SIGTERM');
  });
});

describe.skipIf(missing('nbdkit'))('a disk whose sync fails once', () => {
  it('is reported to each client that wrote, whichever flushes first', async () => {
    const folder = tempFolder();
    const fails = join(folder, 'fails');
    const path = image();
    const script = writeScript(
      join(folder, 'disk'),
      `case "$1" in
get_size) echo ${size};; open) echo h;; can_write|can_flush) exit 0;;
pread) dd if=${path} bs=64k iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null;;
pwrite) dd of=${path} bs=64k oflag=seek_bytes conv=notrunc seek=$4 2>/dev/null;;
flush) if [ -e ${fails} ]; then echo EIO no >&2; exit 1; fi;;
*) exit 2;;
esac`,
    );
    const disk = await nbdkit(freeSocket(), ['sh', script]);
    const gate = await gateway(disk.uri);
    const [a, b] = [await openNbd(gate.uri), await openNbd(gate.uri)];
    await write(a, 0);
    await write(b, 65536);
    writeFileSync(fails, '');
    expect(await outcome(a.flush())).not.toBe('durable');
    rmSync(fails);
    // Linux drops what it could not write: this flush of the disk succeeds without the data.
    expect(await outcome(b.flush())).not.toBe('durable');
    expect([await outcome(a.flush()), await outcome(b.flush())]).toEqual(['durable', 'durable']);
    for (const device of [a, b]) await device.close();
    await gate.kill('SIGTERM');
    await disk.kill();
  });
});

describe('farbus attach', () => {
  it.each(['overlay', 'cache'])(
    'reports the loss after it was killed and started again with its %s',
    async (filter) => {
      const { path } = freeSocket();
      const args = ['attach', `${image()},${filter}=${tempPath('f')}`, '--socket', path];
      const first = startFarbus(...args);
      await first.printed(/nbd\+unix/);
      const device = await openNbd(`nbd+unix:///?socket=${path}`, { reconnectSeconds: 30 });
      await write(device, 0);
      first.child.kill('SIGKILL');
      await first.ended;
      const second = startFarbus(...args);
      await second.printed(/nbd\+unix/);
      expect(await outcome(device.flush())).toMatch(/1 writes? .* may be lost/);
      await device.close();
      second.child.kill('SIGTERM');
      await second.ended;
    },
  );
});
