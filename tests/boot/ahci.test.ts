/**
 * Drives on the AHCI adapter under Debian's own drivers (ahci, sd, sr). Booted once; each test
 * starts from the snapshot. The disk and the disc come from `farbus serve` in another process.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter, type FaultRule } from '../../src/block/filters/fault.js';
import { createComputer, initReadyText, startGuest, type Guest } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import type { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import { ahciModules, bootModules, defaultCommandLine, prepareDebianGuest } from '../../src/guest/debian.node.js';
import { controlFolder } from '../../src/app/control/folder.js';
import { askControl } from '../../src/app/control/client.js';
import type { ServeStatus } from '../../src/app/serve/control.js';
import { openPath } from '../../src/storage/open.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { farbus, type Finished } from '../interop/farbus.js';
import { Ioctl, ioctlProgram } from '../support/guest-program.js';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';
import { sha256 } from '../support/sha256.js';
import { runner } from '../support/guest-commands.js';

const memory = 160 << 20;
const diskSize = 32 << 20;
const log = { log: () => undefined };
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
/** Positions of the drives in the list of {@link start}. */
const sda = 4;
const sr0 = 5;
const sdb = 6;
/** The export of the drive sr1, whose medium is inserted at the server. */
const farDrive = 'cd';

let guest: Guest;
let folder: string;
let image: string;
let disc: { path: string; hash: string };
let snapshot: string;
let server: ServeProcess;
const open: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  folder = tempFolder();
  image = join(folder, 'disk.img');
  snapshot = join(folder, 'guest.snapshot');
  writeFileSync(image, '');
  truncateSync(image, diskSize);
  disc = makeDisc('first');
  const serve = [image, `${disc.path},read-only`, `${farDrive}=${disc.path},removable,read-only`];
  server = new ServeProcess(join(folder, 'sock'), serve);
  await server.start();
  const { kernel, initramfs, id, version } = await prepareDebianGuest({
    log,
    modules: [...bootModules(), ...ahciModules],
    extraFiles: [
      { path: 'bin/eject', mode: 0o755, data: ioctlProgram(Ioctl.eject) },
      // Linux locks a removable disk while it is open, so the program unlocks it before it ejects.
      { path: 'bin/eject-disk', mode: 0o755, data: ioctlProgram(Ioctl.unlockDoor, Ioctl.eject) },
    ],
  });
  const system = { ...kernel, initramfs, commandLine: defaultCommandLine };
  guest = { image: system, id, version, readyText: initReadyText, sparesDrives: true };
  const { computer } = await start();
  await waitUntil(computer, 'test -b /dev/sda && test -b /dev/sr0 && test -b /dev/sdb && test -b /dev/sr1');
  await closeAll();
}, 400_000);

afterEach(closeAll);

afterAll(async () => {
  await closeAll();
  await server?.stop();
});

describe('a disk', () => {
  it('is found with its queue, cache and name, and shares an interrupt line with an NVMe disk', async () => {
    const { computer } = await start();
    const run = runner(computer);
    expect(await run('cat /sys/block/sda/device/model')).toContain('Farbus ATA Disk');
    expect(await run('cat /sys/block/sda/device/queue_depth')).toBe('32\n');
    expect(await run('cat /sys/block/sda/queue/write_cache')).toBe('write back\n');
    // The guest sees the property of the disk on which the served file lies.
    const below = await openPath(image, { readOnly: true });
    expect(await run('cat /sys/block/sda/queue/rotational')).toBe(below.info.rotational ? '1\n' : '0\n');
    await below.close();
    expect(Number(await run('cat /sys/block/sda/queue/discard_max_bytes'))).toBeGreaterThan(0);
    expect(await run('cat /sys/block/sda/device/wwid')).toMatch(/^naa\.3[0-9a-f]{15}\n$/);
    expect(await run('grep ahci /proc/interrupts')).toContain('nvme');
    // Use both concurrently, each with its own data.
    const both = (disk: string) =>
      `(dd if=/dev/urandom of=/tmp/${disk} bs=64k count=32; dd if=/tmp/${disk} of=/dev/${disk} bs=64k oflag=direct; ` +
      `dd if=/dev/${disk} of=/tmp/${disk}2 bs=64k count=32 iflag=direct; cmp /tmp/${disk} /tmp/${disk}2 && echo same) 2>/dev/null`;
    expect(await run(`${both('sda')} & ${both('nvme0n1')} & wait`)).toMatch(/same\n(.*\n)*same\n/);
  });

  it('mounts a file system made by the host, and the host reads the files that the guest wrote', async () => {
    const content = randomBytes(1 << 20);
    const source = join(folder, 'source');
    mkdirSync(source, { recursive: true });
    writeFileSync(join(source, 'content'), content);
    execFileSync('mkfs.ext4', ['-q', '-F', '-d', source, image], { env: admin });
    const { computer } = await start();
    const run = runner(computer);
    await run('mkdir -p /mnt/d && mount -t ext4 /dev/sda /mnt/d');
    expect(await run('sha256sum /mnt/d/content')).toContain(sha256(content));
    const written = await run('dd if=/dev/urandom of=/mnt/d/new bs=64k count=20 2>/dev/null; sha256sum /mnt/d/new');
    await run('rm /mnt/d/content; sync; fstrim /mnt/d; umount /mnt/d');
    execFileSync('e2fsck', ['-f', '-n', image], { env: admin, stdio: 'pipe' });
    const copy = join(folder, 'copy');
    execFileSync('debugfs', ['-R', `dump new ${copy}`, image], { env: admin, stdio: 'pipe' });
    expect(written).toContain(sha256(readFileSync(copy)));
  });

  it('needs 7 register accesses for a single queued command, 6 for an unqueued one, fewer at depth', async () => {
    const { computer } = await start();
    const run = runner(computer);
    const perCommand = async (command: string): Promise<number> => {
      const before = computer.counts;
      await run(`${command} 2>/dev/null`);
      const after = computer.counts;
      const traps = after.traps.reads + after.traps.writes - before.traps.reads - before.traps.writes;
      return traps / (after.commands - before.commands);
    };
    const read = (skip: number) => `dd if=/dev/sda of=/dev/null bs=4k count=200 skip=${skip} iflag=direct 2>/dev/null`;
    expect(await perCommand(read(0))).toBeLessThanOrEqual(7.1);
    expect(await perCommand(`${[0, 1, 2, 3, 4, 5].map((i) => `${read(i * 500)} &`).join(' ')} wait`)).toBeLessThan(6);
    await run('echo 1 > /sys/block/sda/device/queue_depth');
    expect(await perCommand(read(0))).toBeLessThanOrEqual(6.1);
  });

  it('disappears when it is pulled out and returns when it is plugged in', async () => {
    const { computer } = await start();
    const run = runner(computer);
    const load = computer.console.run('while dd if=/dev/sda of=/dev/null bs=64k iflag=direct 2>/dev/null; do :; done');
    await new Promise((resolve) => setTimeout(resolve, 500));
    computer.ahci!.unplug(sda);
    await load;
    await waitUntil(computer, 'test ! -b /dev/sda');
    computer.ahci!.plug(sda);
    await waitUntil(computer, 'test -b /dev/sda');
    await run('dd if=/dev/sda of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null');
  });

  it('reports a full disk and bad sectors, and neighbouring sectors still work', async () => {
    const rules: FaultRule[] = [
      { on: ['write'], action: 'no-space', range: { offset: 4 << 20, length: 1 << 20 } },
      { on: ['read'], action: 'io', range: { offset: 8 << 20, length: 4096 } },
      { on: ['write'], action: 'io', range: { offset: 12 << 20, length: 4096 } },
    ];
    const { computer } = await start({ faults: rules });
    const { console } = computer;
    const full = await console.run('dd if=/dev/zero of=/dev/sda bs=4k seek=1100 count=1 oflag=direct');
    // Linux 6.1 does not request sense data from a plain disk, and "full" is reported only there.
    expect(full.output).toContain('Input/output error');
    const bad = await console.run('dd if=/dev/sda of=/dev/null bs=4k skip=2048 count=1 iflag=direct');
    expect(bad.output).toContain('Input/output error');
    const unwritten = await console.run('dd if=/dev/zero of=/dev/sda bs=4k seek=3072 count=1 oflag=direct', 100_000);
    expect(unwritten.output).toContain('Input/output error');
    await runner(computer)('dd if=/dev/sda of=/dev/null bs=4k skip=2049 count=100 iflag=direct');
  });

  it('pauses while its server is killed and started again, without an error', async () => {
    const { computer } = await start();
    const load = runner(computer)(
      'dd if=/dev/urandom of=/tmp/l bs=64k count=16 2>/dev/null; for i in 1 2 3 4 5 6; do ' +
        'dd if=/tmp/l of=/dev/sda bs=64k seek=$((i*16)) oflag=direct conv=fsync 2>/dev/null || exit 1; sleep 0.3; done; ' +
        'sha256sum /tmp/l',
    );
    for (let i = 0; i < 2; i++) {
      await new Promise((resolve) => setTimeout(resolve, 700));
      await server.stop('SIGKILL');
      await server.start();
    }
    const output = await load;
    const stored = readFileSync(image);
    for (let i = 1; i <= 6; i++) expect(output).toContain(sha256(stored.subarray(i << 20, (i + 1) << 20)));
  });
});

describe('a CD drive', () => {
  it('shows a disc, locks it while it is mounted, and releases it when the guest ejects it', async () => {
    const { computer, ejected } = await start();
    const run = runner(computer);
    await run('mkdir -p /mnt/c && mount -t iso9660 /dev/sr0 /mnt/c');
    expect(await run('sha256sum /mnt/c/file')).toContain(disc.hash);
    expect(computer.ahci!.eject(sr0)).toBe('locked');
    expect((await computer.console.run('eject /dev/sr0')).status).not.toBe(0);
    await run('umount /mnt/c; eject /dev/sr0');
    expect(ejected).toEqual([sr0]);
    const { output, status } = await computer.console.run('dd if=/dev/sr0 of=/dev/null bs=2k count=1');
    expect(status).not.toBe(0);
    expect(output).toContain('No medium found');
    const other = makeDisc('second');
    computer.ahci!.insert(sr0, memoryDisc(other.path));
    await run('mount -t iso9660 /dev/sr0 /mnt/c');
    expect(await run('sha256sum /mnt/c/file; umount /mnt/c')).toContain(other.hash);
  });

  it('gives errors and does not hang when its disc is removed by force', async () => {
    const { computer } = await start();
    const run = runner(computer);
    await run('mkdir -p /mnt/c && mount -t iso9660 /dev/sr0 /mnt/c && ls /mnt/c');
    expect(computer.ahci!.eject(sr0, true)).toBe('ejected');
    expect((await computer.console.run('cat /mnt/c/file > /dev/null', 100_000)).status).not.toBe(0);
    await run('umount /mnt/c');
  });
});

describe('a removable disk', () => {
  it('starts empty, takes a medium, and the medium keeps the data written to it', async () => {
    const { computer, ejected } = await start();
    const run = runner(computer);
    expect((await computer.console.run('dd if=/dev/sdb of=/dev/null count=1')).output).toContain('No medium found');
    const bytes = new Uint8Array(8 << 20);
    computer.ahci!.insert(sdb, new MemoryDevice(bytes));
    const output = await run(
      'dd if=/dev/urandom of=/tmp/w bs=64k count=16 2>/dev/null; sha256sum /tmp/w; cat /tmp/w > /dev/sdb',
    );
    await run('eject-disk /dev/sdb');
    expect(ejected).toEqual([sdb]);
    expect(output).toContain(sha256(bytes.subarray(0, 1 << 20)));
    computer.ahci!.insert(sdb, new MemoryDevice(bytes, { readOnly: true }));
    expect((await computer.console.run('dd if=/dev/zero of=/dev/sdb bs=4k count=1')).status).not.toBe(0);
    expect(await run('cat /sys/block/sdb/ro')).toBe('1\n');
    expect(computer.ahci!.eject(sdb)).toBe('ejected');
  });
});

describe('a CD drive whose disc is in the server’s drive', () => {
  it('loses the disc when it is removed there, reads the next one, and ejects it there; other drives keep working', async () => {
    const { computer } = await start();
    const run = runner(computer);
    const others = 'dd if=/dev/sda of=/dev/null bs=64k count=8 iflag=direct 2>/dev/null';
    await run('mkdir -p /mnt/f && mount -t iso9660 /dev/sr1 /mnt/f');
    expect(await run('sha256sum /mnt/f/file')).toContain(disc.hash);
    // Linux locks the medium while its file system is mounted.
    expect(await media('eject')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('a client holds') as string,
    });
    expect((await media('eject', '--force')).code).toBe(0);
    await waitUntil(computer, '! dd if=/dev/sr1 of=/dev/null bs=2k count=1 iflag=direct 2>/dev/null');
    expect((await computer.console.run('cat /mnt/f/file > /dev/null', 100_000)).status).not.toBe(0);
    await run(`umount /mnt/f; ${others}`);
    const none = await computer.console.run('dd if=/dev/sr1 of=/dev/null bs=2k count=1', 100_000);
    expect(none.output).toContain('No medium found');

    const other = makeDisc('third');
    expect((await media('insert', other.path)).code).toBe(0);
    await waitUntil(computer, 'dd if=/dev/sr1 of=/dev/null bs=2k count=1 2>/dev/null');
    await run('mount -t iso9660 /dev/sr1 /mnt/f');
    expect(await run('sha256sum /mnt/f/file; umount /mnt/f')).toContain(other.hash);

    await run('eject /dev/sr1');
    expect(await medium()).toMatchObject({ present: false });
    expect((await computer.console.run('dd if=/dev/sr1 of=/dev/null bs=2k count=1')).output).toContain('No medium');
    await run(others);
    expect((await media('insert', disc.path)).code).toBe(0);
    await waitUntil(computer, 'dd if=/dev/sr1 of=/dev/null bs=2k count=1 2>/dev/null');
    await run('mount -t iso9660 /dev/sr1 /mnt/f');
    expect(await run('sha256sum /mnt/f/file; umount /mnt/f')).toContain(disc.hash);
  }, 300_000);
});

describe('a far drive that vanishes in the middle of a command', () => {
  it('gives an error and does not hang, and other drives keep working', async () => {
    const { computer } = await start({ reconnectSeconds: 0 });
    const load = computer.console.run(
      'while dd if=/dev/zero of=/dev/sda bs=64k count=64 oflag=direct 2>/tmp/said; do :; done; cat /tmp/said',
      100_000,
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    await server.stop('SIGKILL');
    expect((await load).output).toContain('Input/output error');
    await runner(computer)('dd if=/dev/nvme0n1 of=/dev/null bs=64k count=8 iflag=direct 2>/dev/null');
    await closeAll();
    await server.start();
  }, 120_000);
});

/** Runs `farbus media` for the server. */
function media(...action: string[]): Promise<Finished> {
  return farbus('media', '--server', '--socket', controlSocket(), farDrive, ...action);
}

async function medium(): Promise<unknown> {
  const { exports } = (await askControl(controlSocket(), { command: 'status' })) as ServeStatus;
  return exports.find(({ name }) => name === farDrive)!.medium;
}

function controlSocket(): string {
  const folder = controlFolder();
  return join(
    folder,
    readdirSync(folder).find((name) => name.endsWith(`.${server.pid}.sock`))!,
  );
}

interface StartOptions {
  readonly reconnectSeconds?: number;
  /** Rules of a fault filter on sda. */
  readonly faults?: readonly FaultRule[];
}

/**
 * Starts a computer with four NVMe disks, so that the adapter's slot shares the interrupt line of
 * the first; then sda, sr0, sdb, sr1.
 */
async function start(options: StartOptions = {}) {
  const far = async (text: string): Promise<ClientDrive & { device: BlockDevice }> => {
    const drive = await openClientDrive(parseSource(text), { reconnectSeconds: options.reconnectSeconds ?? 60, log });
    open.push(() => drive.device!.close());
    return { ...drive, device: drive.device! };
  };
  const disk = await far(`${server.uri('disk.img')},bus=ahci`);
  const device = options.faults ? new FaultFilter(disk.device, options.faults) : disk.device;
  const drives = [
    ...[1, 2, 3, 4].map(() => new MemoryDevice(4 << 20)),
    { ...disk, device },
    await far(`${server.uri('first.iso')},cdrom`),
    await openClientDrive(parseSource(',removable'), { log }),
    await far(`${server.uri(farDrive)},cdrom`),
  ];
  const ejected: number[] = [];
  const computer = await createComputer(drives, memory, { log, onEject: (index) => ejected.push(index) });
  open.push(() => computer.stop());
  await startGuest(computer, guest, snapshot, memory);
  return { computer, ejected };
}

async function closeAll(): Promise<void> {
  for (const close of open.splice(0).reverse()) await close();
}

async function waitUntil(computer: ClientComputer, condition: string): Promise<void> {
  const { status } = await computer.console.run(
    `i=0; until ${condition}; do i=$((i+1)); test $i -lt 60 || break; sleep 1; done; ${condition}`,
    100_000,
  );
  expect(status, condition).toBe(0);
}

/** Makes a disc with one file of random content. */
function makeDisc(name: string): { path: string; hash: string } {
  const content = randomBytes(3_000_000);
  const source = join(folder, name);
  const path = join(folder, `${name}.iso`);
  mkdirSync(source);
  writeFileSync(join(source, 'file'), content);
  execFileSync('xorriso', ['-as', 'mkisofs', '-quiet', '-R', '-V', name, '-o', path, source], { stdio: 'pipe' });
  return { path, hash: sha256(content) };
}

function memoryDisc(path: string): BlockDevice {
  return new MemoryDevice(new Uint8Array(readFileSync(path)), { readOnly: true });
}
