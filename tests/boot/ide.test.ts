/**
 * The engine's own IDE controller under Debian's ata_piix, in one boot: a disk from `farbus serve`,
 * and a disk in this process whose answers the test delays or makes fail. Writes and flushes end in
 * the guest only when they have ended here.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Buffers } from '../../src/base/buffers.js';
import type { WriteOptions } from '../../src/block/device.js';
import { BlockError, type BlockErrorKind } from '../../src/block/errors.js';
import { chooseGuest, createComputer, startGuest } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import type { ClientComputer } from '../../src/computer/client.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';
import { sha256 } from '../support/sha256.js';

const memory = 128 << 20;
const log = { log: () => undefined };
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
const known = randomBytes(1 << 20);

/** Holds writes and flushes until the test releases them, or fails them. */
class HeldDisk extends MemoryDevice {
  held: 'write' | 'flush' | undefined;
  failure: BlockErrorKind | undefined;
  readonly waiting: (() => void)[] = [];
  flushes = 0;

  override async read(offset: number, into: Buffers): Promise<void> {
    this.#fail();
    await super.read(offset, into);
  }

  override async write(offset: number, from: Buffers, options?: WriteOptions): Promise<void> {
    await this.#wait('write');
    this.#fail();
    await super.write(offset, from, options);
  }

  override async flush(): Promise<void> {
    await this.#wait('flush');
    this.#fail();
    this.flushes++;
  }

  letGo(): void {
    this.held = undefined;
    for (const go of this.waiting.splice(0)) go();
  }

  async #wait(what: 'write' | 'flush'): Promise<void> {
    if (this.held === what) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  #fail(): void {
    if (this.failure) throw new BlockError(this.failure, 'as asked');
  }
}

let folder: string;
let image: string;
let server: ServeProcess;
let computer: ClientComputer;
/** The guest's names ("sda", "sdb") of the far disk and of the disk that can be held. */
let disk: string;
let other: string;
const held = new HeldDisk(8 << 20);
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  folder = tempFolder();
  const files = join(folder, 'files');
  mkdirSync(files);
  writeFileSync(join(files, 'known'), known);
  image = join(folder, 'disk.img');
  writeFileSync(image, '');
  truncateSync(image, 16 << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', '-d', files, image], { env: admin });
  server = new ServeProcess(join(folder, 'sock'), [image]);
  await server.start();
  const far = await openClientDrive(parseSource(`${server.uri('disk.img')},bus=ide,serial=FARBUS-42,model=Old Disk`), {
    log,
  });
  closing.push(() => far.device!.close());
  const guest = await chooseGuest({ ide: true, log });
  computer = await createComputer([far, { device: held, bus: 'ide' }], memory, { log });
  closing.push(() => computer.stop());
  await startGuest(computer, guest, undefined, memory);
  await run('i=0; until test -b /dev/sdb; do i=$((i+1)); test $i -lt 60 || break; sleep 1; done; test -b /dev/sdb');
  disk = /(sd[ab])\/device\/model:Old Disk/.exec(await run('grep . /sys/block/sd*/device/model'))![1]!;
  other = disk === 'sda' ? 'sdb' : 'sda';
}, 400_000);

afterAll(async () => {
  held.letGo();
  for (const close of closing.reverse()) await close();
  await server?.stop();
});

describe('a far disk on IDE', () => {
  it('has the model and serial number that its user chose, with DMA and a write cache', async () => {
    expect(await run(`cat /sys/block/${disk}/device/model`)).toContain('Old Disk');
    expect(await run(`dd if=/sys/block/${disk}/device/vpd_pg80 bs=1 skip=4 2>/dev/null`)).toContain('FARBUS-42');
    expect(await run(`cat /sys/block/${disk}/queue/write_cache`)).toBe('write back\n');
    expect(await run('cat /sys/class/ata_device/dev1.0/xfer_mode')).toMatch(/MW_?DMA_?2/);
  });

  it('mounts a file system made by the host, and the host reads the files that the guest wrote', async () => {
    await run(`mkdir -p /mnt/d && mount -t ext4 /dev/${disk} /mnt/d`);
    expect(await run('sha256sum /mnt/d/known')).toContain(sha256(known));
    const written = await run('dd if=/dev/urandom of=/mnt/d/new bs=64k count=20 2>/dev/null; sha256sum /mnt/d/new');
    await run('rm /mnt/d/known; umount /mnt/d');
    execFileSync('e2fsck', ['-f', '-n', image], { env: admin, stdio: 'pipe' });
    const copy = join(folder, 'copy');
    execFileSync('debugfs', ['-R', `dump new ${copy}`, image], { env: admin, stdio: 'pipe' });
    expect(written).toContain(sha256(readFileSync(copy)));
    expect(computer.counts.io.writtenBytes).toBeGreaterThan(20 * 65536);
  });
});

describe('the answers of a disk on IDE', () => {
  const write = () => `dd if=/dev/zero of=/dev/${other} bs=4k count=1 oflag=direct conv=fsync 2>&1`;

  it.each(['write', 'flush'] as const)('a %s completes only when the disk has answered', async (what) => {
    held.held = what;
    let over = false;
    const command = run(write()).then(() => (over = true));
    while (held.waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    // Wait long enough to detect a guest that does not wait.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(over).toBe(false);
    held.letGo();
    await command;
    expect(held.flushes).toBeGreaterThan(0);
  });

  it.each(['io', 'no-space'] as const)(
    '%s gives the guest an error with its cause',
    async (failure) => {
      held.failure = failure;
      for (const command of [write(), `dd if=/dev/${other} of=/dev/null bs=4k count=1 iflag=direct 2>&1`]) {
        const { output, status } = await computer.console.run(command, 100_000);
        expect(output).toContain('Input/output error');
        expect(status).not.toBe(0);
      }
      held.failure = undefined;
      await run(write());
    },
    120_000,
  );
});

/** Runs a command that must succeed. */
async function run(command: string): Promise<string> {
  const { output, status } = await computer.console.run(command, 100_000);
  expect(status, `${command}: ${output}`).toBe(0);
  return output;
}
