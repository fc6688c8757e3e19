/**
 * Two computers boot from files that a tab of Chromium lends, while the tab is closed and opened
 * again: SeaBIOS and GRUB from a CD of 4 GiB in a computer of Farbus, and Linux from a disk in
 * QEMU, by `farbus attach`.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, openSync, readSync, closeSync, truncateSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createComputer } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import { packageFolder, prepareFirmware } from '../../src/guest/firmware.node.js';
import { makeBootDisk } from '../support/amd64-disk.js';
import { until } from '../support/event-loop.js';
import { LendServer, stopIn } from '../support/lend-page.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { execute, farbusFile } from '../interop/farbus.js';

const log = { log: () => undefined };
const iso = 'usr/lib/grub-rescue/grub-rescue-cdrom.iso';
/** Bytes of the CD that GRUB reads and hashes. */
const hashed = 2 << 20;

let server: LendServer;
let nbd: string;

beforeAll(async () => {
  server = await LendServer.start(600, 'other=memory:1M');
  ({ nbd } = server);
}, 200_000);

afterAll(() => server.close());

function startOf(file: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const fd = openSync(file, 'r');
  readSync(fd, bytes, 0, length, 0);
  closeSync(fd);
  return bytes;
}

describe('a file that a tab lends', () => {
  it('is a CD of 4 GiB from which SeaBIOS and GRUB boot while the tab comes and goes', async () => {
    const file = join(tempFolder(), 'rescue.iso');
    copyFileSync(join(await packageFolder('grub-rescue-pc', [`./${iso}`]), iso), file);
    truncateSync(file, 2 ** 32);
    utimesSync(file, 1_700_000_000, 1_700_000_000);
    let page = await server.lent(file, 'rescue.iso');
    const drive = await openClientDrive(parseSource(`${nbd}rescue.iso,cdrom`), { log, reconnectSeconds: 600 });
    const computer = await createComputer([drive], 64 << 20, { log, firmware: await prepareFirmware() });
    const { screen } = computer;
    try {
      computer.bootFirmware();
      await until(() => computer.counts.traps.commands > 0);
      await page.close();
      page = await server.lent(file, 'rescue.iso');
      await screen!.waitFor(/GNU GRUB/, 200_000);
      await screen!.type('c');
      await screen!.waitFor(/grub> *$/m, 60_000);
      await screen!.command('insmod hashsum', /^grub>$/, 60_000);
      await page.close();
      const answer = screen!.command(`sha256sum (cd)0+${hashed / 512}`, /^grub>$/, 200_000);
      page = await server.lent(file, 'rescue.iso');
      expect(await answer).toContain(createHash('sha256').update(startOf(file, hashed)).digest('hex'));
    } finally {
      await computer.stop();
      await stopIn(page);
    }
  }, 600_000);

  it.skipIf(missing('qemu-system-x86_64') || missing('grub-mkimage'))(
    'is a disk from which QEMU boots by farbus attach while the tab comes and goes',
    async () => {
      const disk = await makeBootDisk();
      truncateSync(disk.path, 2 ** 32);
      utimesSync(disk.path, 1_700_000_000, 1_700_000_000);
      let page = await server.lent(disk.path, 'disk');
      const machine = ['-machine', 'pc,accel=tcg', '-m', '512', '-nodefaults', '-no-reboot'];
      const console = ['-display', 'none', '-serial', 'stdio'];
      const drive = ['-drive', 'file={nbd},format=raw,if=none,id=d', '-device', 'nvme,drive=d,serial=1,bootindex=0'];
      const qemu = ['qemu-system-x86_64', ...machine, ...console, ...drive];
      const attach = [farbusFile, 'attach', `${nbd}disk`, '--overlay', tempPath('changes.overlay'), '--', ...qemu];
      const booted = execute(process.execPath, attach, 300_000);
      let over = false;
      void booted.finally(() => (over = true));
      for (let round = 0; round < 3 && !over; round++) {
        const read = (): Promise<number> => page.evaluate('globalThis.use?.requests ?? 0');
        const before = await read();
        await until(async () => over || (await read()) > before + 20);
        await page.close();
        page = await server.lent(disk.path, 'disk');
      }
      const { code, stdout, stderr } = await booted;
      expect(stdout, stderr).toContain(`hash ${disk.hash}`);
      expect(code).toBe(0);
      await page.close();
    },
    600_000,
  );
});
