/**
 * One far disk, used by one operating system after another: Debian's Linux 6.1 (AHCI), GNU Mach,
 * GRUB, Linux 5.10 (NVMe and IDE), and the host. Each reads what the others have written. Without
 * FARBUS_TEST_ALL, Linux 5.10 is left out. The disk comes from `farbus serve`.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createComputer } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import { packageFolder, prepareFirmware } from '../../src/guest/firmware.node.js';
import { execute, farbusFile } from '../interop/farbus.js';
import { Mach, machPattern, machTools, makeMachDisc } from '../support/mach.js';
import { missing } from '../support/nbd-peers.js';
import { ServeProcess } from '../support/server.js';
import { tempFolder } from '../support/temp.js';
import { sha256 } from '../support/sha256.js';

const skipped = [...machTools, 'sfdisk', 'mkfs.ext4', 'fsck.vfat', 'mcopy'].map(missing).includes(true);
const all = Boolean(process.env['FARBUS_TEST_ALL']);
if (!all) console.warn('Linux 5.10 on the disk of other guests: with FARBUS_TEST_ALL only (npm run test:all)');

const log = { log: () => undefined };
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
const rescue = 'usr/lib/grub-rescue/grub-rescue-cdrom.iso';
/** Partitions, in sectors: one with ext4, one with FAT, and one without a file system. */
const ext4 = { start: 2048, count: 49152 };
// Large enough for FAT32 with clusters of one sector, which the guest's mkdosfs makes for any size.
const fat = { start: 51200, count: 73728 };
const bare = { start: 124928, count: 8192 };
const sectors = bare.start + bare.count;

let folder: string;
let image: string;
let server: ServeProcess;
/** SHA-256 of the written files, by name. The same file is on both file systems. */
const files = new Map<string, string>();

describe.skipIf(skipped)('a far disk', () => {
  beforeAll(async () => {
    folder = tempFolder();
    image = join(folder, 'disk.img');
    writeFileSync(image, '');
    truncateSync(image, sectors * 512);
    const table = [`${ext4.start},${ext4.count},83`, `${fat.start},${fat.count},c`, `${bare.start},${bare.count},da`];
    execFileSync('sfdisk', ['-q', image], { env: admin, input: `label: dos\n${table.join('\n')}\n` });
    execFileSync('mkfs.ext4', ['-q', '-F', '-E', `offset=${ext4.start * 512}`, image, `${ext4.count / 2}k`], {
      env: admin,
    });
    makeMachDisc(join(folder, 'mach.iso'));
    copyFileSync(join(await packageFolder('grub-rescue-pc', [`./${rescue}`]), rescue), join(folder, 'rescue.iso'));
    const discs = ['mach.iso,read-only', 'rescue.iso,read-only'].map((name) => join(folder, name));
    server = new ServeProcess(join(folder, 'sock'), [image, ...discs]);
    await server.start();
  }, 400_000);

  afterAll(async () => {
    await server?.stop();
  });

  it('is written by Linux 6.1 with AHCI: ext4, FAT and sectors', async () => {
    const output = await linux(onAhci(), 'sda3', [
      // BusyBox does not pad a label, and fsck.vfat requires all eleven characters.
      'mkdosfs -n FARBUSGUEST /dev/sda2 >/dev/null',
      'dd if=/dev/urandom of=/tmp/linux6 bs=64k count=40 2>/dev/null',
      ...onBoth('sda', put('linux6')),
      'dd if=/tmp/linux6 of=/dev/sda3 bs=64k count=16 conv=fsync 2>/dev/null',
    ]);
    noteFiles(output);
  }, 400_000);

  it('is read and written by GNU Mach', async () => {
    const mach = new Mach([`${server.uri('mach.iso')},cdrom`, `${server.uri('disk.img')},bus=ahci`]);
    onTestFinished(() => mach.stop());
    await mach.ready();
    // Mach's own partition reader calls the third partition s3.
    const there = readFileSync(image).subarray(bare.start * 512);
    expect(await mach.command('hash sd0s3 0 2048')).toBe(sha256(there.subarray(0, 2048 * 512)));
    const written = sha256(machPattern(2048, 1000, 11));
    expect(await mach.command('fill sd0s3 2048 1000 11')).toBe(written);
    expect(sha256(readFileSync(image).subarray((bare.start + 2048) * 512, (bare.start + 3048) * 512))).toBe(written);
  }, 400_000);

  it("is read by GRUB's own AHCI driver", async () => {
    const drives = [`${server.uri('rescue.iso')},cdrom`, `${server.uri('disk.img')},read-only,bus=ahci`];
    const opened = await Promise.all(drives.map((text) => openClientDrive(parseSource(text), { log })));
    onTestFinished(async () => void (await Promise.all(opened.map(({ device }) => device!.close()))));
    const computer = await createComputer(opened, 64 << 20, { log, firmware: await prepareFirmware() });
    onTestFinished(() => computer.stop());
    computer.bootFirmware();
    await computer.screen!.waitFor(/GNU GRUB/, 120_000);
    await computer.screen!.type('c');
    await computer.screen!.waitFor(/grub> *$/m, 30_000);
    const grub = (line: string) => computer.screen!.command(line, /^grub>$/, 60_000);
    for (const line of ['insmod hashsum', 'insmod ext2', 'insmod fat', 'insmod part_msdos', 'nativedisk ahci'])
      await grub(line);
    for (const partition of ['msdos1', 'msdos2']) {
      await grub('clear');
      expect(await grub(`sha256sum (ahci1,${partition})/linux6`)).toContain(files.get('linux6'));
    }
  }, 400_000);

  it.skipIf(!all)(
    'is read and written by Linux 5.10 with NVMe, and read with IDE',
    async () => {
      const drives = ['--drive', server.uri('disk.img'), '--drive', `${server.uri('disk.img')},bus=ide`];
      const output = await linux(['--debian', '11', ...drives], 'sda3', [
        'dd if=/dev/urandom of=/tmp/linux5 bs=64k count=30 2>/dev/null',
        ...onBoth('nvme0n1p', ['sha256sum linux6', ...put('linux5')]),
        'dd if=/tmp/linux5 of=/dev/nvme0n1p3 bs=512 seek=4096 count=1000 conv=fsync 2>/dev/null',
        // The same disk on the other controller, which has not read these partitions before.
        ...onBoth('sda', ['sha256sum linux6 linux5']),
      ]);
      noteFiles(output);
    },
    300_000,
  );

  it('gives Linux 6.1 the files and sectors that the others wrote', async () => {
    const read = (first: number) => `dd if=/dev/sda3 bs=512 skip=${first} count=1000 2>/dev/null | sha256sum`;
    const output = await linux(onAhci(), 'sda3', [
      ...onBoth('sda', ['sha256sum *6 *5 2>/dev/null || true']),
      read(2048),
      read(4096),
    ]);
    noteFiles(output);
    expect(output).toContain(sha256(machPattern(2048, 1000, 11)));
    expect(output).toContain(
      sha256(readFileSync(image).subarray((bare.start + 4096) * 512, (bare.start + 5096) * 512)),
    );
  }, 400_000);

  it('passes the host’s checks and contains the same files', () => {
    const parts = { ext4, fat };
    const part = (name: keyof typeof parts): string => {
      const { start, count } = parts[name];
      const path = join(folder, name);
      writeFileSync(path, readFileSync(image).subarray(start * 512, (start + count) * 512));
      return path;
    };
    const [ext4Part, fatPart] = [part('ext4'), part('fat')];
    execFileSync('e2fsck', ['-f', '-n', ext4Part], { env: admin, stdio: 'pipe' });
    execFileSync('fsck.vfat', ['-n', fatPart], { env: admin, stdio: 'pipe' });
    expect([...files.keys()].sort()).toEqual(all ? ['linux5', 'linux6'] : ['linux6']);
    for (const [name, hash] of files) {
      const copy = join(folder, name);
      execFileSync('debugfs', ['-R', `dump ${name} ${copy}`, ext4Part], { env: admin, stdio: 'pipe' });
      expect(sha256(readFileSync(copy))).toBe(hash);
      execFileSync('mcopy', ['-n', '-i', fatPart, `::${name}`, `${copy}.fat`], { env: admin });
      expect(sha256(readFileSync(`${copy}.fat`))).toBe(hash);
    }
  });
});

/**
 * Runs commands in a Debian guest once its last partition exists. Each must succeed. Resolves with
 * the output.
 */
async function linux(drives: readonly string[], partition: string, commands: readonly string[]): Promise<string> {
  const wait = `i=0; until test -b /dev/${partition}; do i=$((i+1)); test $i -lt 60 || exit 9; sleep 1; done`;
  const script = ['set -e', wait, ...commands].join('; ');
  const { code, stdout, stderr } = await execute(
    process.execPath,
    [farbusFile, 'run', ...drives, '--exec', `(${script})`],
    280_000,
  );
  expect(code, `${stdout}${stderr}`).toBe(0);
  return stdout;
}

/** Linux 6.1 with the disk on AHCI. The second time it resumes from the end of its boot. */
function onAhci(): string[] {
  return ['--drive', `${server.uri('disk.img')},bus=ahci`, '--snapshot', join(folder, 'linux6.snapshot')];
}

/** The commands, run in each of the first two partitions' file systems. */
function onBoth(disk: string, commands: readonly string[]): string[] {
  return ['1', '2'].flatMap((number, index) => [
    `mount -t ${index === 0 ? 'ext4' : 'vfat'} /dev/${disk}${number} /mnt`,
    'cd /mnt',
    ...commands,
    'cd /',
    'umount /mnt',
  ]);
}

/** Copies a file from /tmp to the current directory. */
function put(name: string): string[] {
  return [`cp /tmp/${name} .`, `sha256sum ${name}`];
}

/** Records the hashes in the output of sha256sum. Each name must always have the same hash. */
function noteFiles(output: string): void {
  for (const [, hash, name] of output.matchAll(/^([0-9a-f]{64}) +(\w+)$/gm)) {
    expect(files.get(name!) ?? hash, name).toBe(hash);
    files.set(name!, hash!);
  }
}
