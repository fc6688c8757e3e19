/** An overlay on a full file system: a failed write gives a one-line error, not a crash. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { silent } from '../../src/base/log.js';
import { tempFolder } from '../support/temp.js';
import { execute, startFarbus } from './farbus.js';

const MiB = 1 << 20;

describe.skipIf(process.getuid?.() !== 0)('an overlay on a full disk', () => {
  for (const command of ['attach', 'serve']) {
    it(`ends farbus ${command} with a line and status 1`, async () => {
      const folder = tempFolder();
      const small = join(folder, 'small');
      mkdirSync(small);
      const mounted = await execute('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', small]);
      if (mounted.code !== 0) return void console.warn(`SKIPPED: no tmpfs can be mounted: ${mounted.stderr}`);
      try {
        const base = join(folder, 'b.img');
        writeFileSync(base, Buffer.alloc(8 * MiB, 1));
        const socket = join(folder, 's');
        const where = command === 'attach' ? ['--socket', socket] : ['--listen', `nbd+unix:///?socket=${socket}`];
        const started = startFarbus(command, base, '--overlay', join(small, 'o'), ...where);
        const [uri] = await started.printed(/nbd\+unix\S+/);
        const device = await openNbd(uri, { reconnectSeconds: 0, log: silent });
        await device.write(0, buffersOf(new Uint8Array(65536)));
        // From here on there is no space for the map.
        await execute('sh', ['-c', `head -c 8M /dev/zero > ${join(small, 'fill')}`]);
        await expect(device.write(MiB, buffersOf(new Uint8Array(MiB)))).rejects.toMatchObject({ kind: 'no-space' });
        await expect(device.flush()).rejects.toMatchObject({ kind: 'no-space' });
        await device.close();
        started.child.kill('SIGTERM');
        expect((await started.ended).code).toBe(1);
        expect(started.stderr()).toMatch(/^farbus: the overlay cannot be written .* its disk is full; [^\n]*$/m);
        expect(started.stderr()).not.toMatch(/internal error/);
        rmSync(join(small, 'fill'));
      } finally {
        await execute('umount', [small]);
      }
    });
  }
});
