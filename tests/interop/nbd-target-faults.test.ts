/** Errors of a device, as independent clients see them through the NBD target. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Buffers } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import { BlockError } from '../../src/block/errors.js';
import { exportUri } from '../../src/export/nbd/address.js';
import { Exports } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { listenOn } from '../../src/network/listen.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder } from '../support/temp.js';
import { run } from './nbd-target-farbus.js';

const MiB = 1 << 20;

/** Unreadable from 1 MiB to 2 MiB, full from 2 MiB on. */
class FaultyDevice extends MemoryDevice {
  protected override async doRead(offset: number, into: Buffers): Promise<void> {
    if (offset + into.length > MiB && offset < 2 * MiB) throw new BlockError('io', 'a bad sector');
    await super.doRead(offset, into);
  }
  protected override async doWrite(offset: number, from: Buffers): Promise<void> {
    if (offset + from.length > 2 * MiB) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    await super.doWrite(offset, from);
  }
}

describe.skipIf(missing('qemu-io'))('a faulty device behind the NBD target', () => {
  const path = join(tempFolder(), 'nbd.sock');
  const exports = new Exports();
  const server = new Server(exports, silent);
  const uri = exportUri({ path }, 'faulty');

  beforeAll(async () => {
    exports.add({ name: 'faulty', device: new FaultyDevice(4 * MiB) });
    server.add(
      await listenOn({ path }, server.accept, (error) => {
        throw error;
      }),
    );
  });
  afterAll(() => server.drain());

  it.each([
    ['read 1M 4k', /read failed: Input\/output error/],
    ['write 2M 4k', /write failed: No space left on device/],
  ])('%s', async (command, message) => {
    const { stdout, stderr } = await run('qemu-io', '-f', 'raw', '-c', command, '-c', 'read -P 0 0 64k', uri);
    expect(stdout + stderr).toMatch(message);
    expect(stdout).toContain('read 65536/65536 bytes at offset 0');
  });

  it.skipIf(missing('nbdcopy'))('a copy from it fails', async () => {
    const { code, stderr } = await run('nbdcopy', uri, 'null:');
    expect(code).not.toBe(0);
    expect(stderr).toContain('Input/output error');
  });
});
