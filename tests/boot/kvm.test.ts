/**
 * `farbus run --engine kvm` on a complete KVM (tests/support/kvm-lab.ts), with Debian's unmodified
 * amd64 kernel and disks that `farbus serve` serves on this machine.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { chooseGuest } from '../../src/app/computer/start.js';
import { packageFolder } from '../../src/guest/firmware.node.js';
import { farbusServe, stop } from '../interop/nbd-target-farbus.js';
import { makeBootDisk, type BootDisk } from '../support/amd64-disk.js';
import { hostAddress, inKvmLab } from '../support/kvm-lab.js';
import { tempFolder } from '../support/temp.js';

const folder = tempFolder();
const farbus = fileURLToPath(new URL('../../bin/farbus.js', import.meta.url));
const disks = ['nvme', 'ahci'].map((name) => join(folder, `${name}.img`));
/** Content of the file that the guests write. */
const numbers = Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join('');
/**
 * Complaints of the lab's emulated processor; and Linux's note on a board without memory-mapped
 * configuration spaces.
 */
const knownComplaints = /xstate|XSAVE|CPUID|RIP: |Call Trace|end trace|fail to add MMCONFIG/;

/** Commands of a guest: facts of the machine, and a file written to the far file system. */
const commands = (disk: string) =>
  [
    'uname -m',
    'echo processors $(nproc)',
    'free -m | grep Mem',
    'echo messages $(grep -c PCI-MSI /proc/interrupts)',
    'dmesg | grep -i -E "error|fail|warn|lost" | sed "s/^/dmesg: /"',
    `mkdir -p /mnt && mount ${disk} /mnt`,
    'seq 1 200000 > /mnt/numbers && sync',
    'echo 3 > /proc/sys/vm/drop_caches && sha256sum /mnt/numbers',
    'umount /mnt',
  ].join('; ');

const runs = {
  nvme: '--engine auto --cpus 2 --memory 4608M',
  ahci: '--engine kvm',
} as const;

/**
 * Commands of the lab: start GRUB from a CD/DVD drive, and type. What it shows is without the
 * positions of the cursor, which are between the letters.
 */
const discCommands = (drive: string): string =>
  [
    "echo '--- disc'",
    'mkfifo /run/keys; touch /run/disc',
    "shown() { sed 's/\\x1b\\[[0-9;]*[A-Za-z]//g' /run/disc; }",
    'type() { for i in $(seq 100); do shown | grep -aq "$1" && break; sleep 1; done; printf "$2"; }',
    `(type 'GNU GRUB' c; type 'grub> ' 'halt\\r') > /run/keys &`,
    `timeout 200 node ${farbus} run --engine kvm --bios --drive ${drive},cdrom < /run/keys > /run/disc; echo "status $?"`,
    'shown',
  ].join('\n');

/**
 * Commands of the lab: start a computer that goes on, without --engine, so that KVM is taken where
 * it works; use it, kill its process, and look for what is left of it.
 */
const killCommands = (drive: string): string => {
  const program = `node ${farbus}`;
  const seen = ['ls -l /proc/[0-9]*/fd', 'cat /proc/[0-9]*/maps']
    .map((list) => `${list} 2> /dev/null | grep -cE 'anon_inode:.?kvm'`)
    .join('; ');
  return [
    "echo '--- killed'",
    `${program} run --detach --name guest --drive ${drive}`,
    `${program} status guest | grep engine`,
    `${program} exec guest 'uname -m; echo written > /dev/nvme0n1; sync'`,
    `echo $(${seen}) > /run/before`,
    `pid=$(${program} ps --json | sed 's/.*"pid":\\([0-9]*\\).*/\\1/')`,
    // A process that has ended has no command line, even if its parent has not asked for it yet.
    'kill -9 $pid; for i in $(seq 100); do grep -q . /proc/$pid/cmdline 2> /dev/null || break; sleep 0.2; done',
    `echo "descriptors and mappings $(cat /run/before), then $(echo $(${seen}))"`,
    `echo "processes: $(${program} ps --quiet)."`,
    // The lock of the overlay is gone with the process.
    `${program} info ${drive} > /run/info; echo "status $?"`,
  ].join('\n');
};

describe('an amd64 Debian on KVM', () => {
  let output = '';
  let bootDisk: BootDisk;

  beforeAll(async () => {
    for (const disk of disks) {
      writeFileSync(disk, '');
      truncateSync(disk, 64 << 20);
      execFileSync('mkfs.ext4', ['-q', '-F', disk], {
        env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
      });
    }
    // The lab cannot write to the cache.
    for (const parts of [{}, { ahci: true }]) {
      await chooseGuest({ architecture: 'amd64', ahci: false, ...parts, log: { log: () => undefined } });
    }
    bootDisk = await makeBootDisk();
    const rescue = 'usr/lib/grub-rescue/grub-rescue-cdrom.iso';
    const disc = `${join(await packageFolder('grub-rescue-pc', [`./${rescue}`]), rescue)},read-only`;
    const server = await farbusServe(['--listen', 'nbd://127.0.0.1:0', ...disks, bootDisk.path, disc], 4);
    const uri = (name: string) => server.lines.find((line) => line.includes(name))!.replace('127.0.0.1', hostAddress);
    const run = (options: string, drive: string, exec: string) =>
      `echo '--- ${options}'; node ${farbus} run ${options} ${drive} --exec '${exec}'; echo "status $?"`;
    const script = [
      run(runs.nvme, `--drive ${uri('nvme.img')}`, commands('/dev/nvme0n1')),
      run(runs.ahci, `--drive ${uri('ahci.img')},bus=ahci`, commands('/dev/sda')),
      `echo '--- bios'; node ${farbus} run --engine kvm --bios --drive ${uri('disk.img')} < /dev/null; echo "status $?"`,
      discCommands(uri('.iso')),
      killCommands(`${uri('nvme.img')},overlay=/run/changes.img`),
    ].join('\n');
    const lab = await inKvmLab(script, 860_000);
    output = lab.output;
    expect(lab.status, output).toBe(0);
    await stop(server);
  }, 900_000);

  const part = (name: string) => output.split(`--- ${name}\n`)[1]?.split('\n--- ')[0] ?? `not run: ${output}`;

  it.each(Object.entries(runs))('reads and writes a far disk on %s, without an error in its log', (_, options) => {
    const said = part(options);
    expect(said).toContain('x86_64');
    expect(said).toContain(createHash('sha256').update(numbers).digest('hex'));
    expect(said).toMatch(/^status 0$/m);
    const complaints = said.split('\n').filter((line) => line.startsWith('dmesg: ') && !knownComplaints.test(line));
    expect(complaints).toEqual([]);
  });

  it('has the processors and the memory that the user asked for, and a vector for each NVMe queue', () => {
    const said = part(runs.nvme);
    expect(said).toContain('processors 2');
    expect(Number(/^Mem: +(\d+)/m.exec(said)?.[1])).toBeGreaterThan(4200);
    expect(said).toContain('messages 3');
  });

  it.each(['nvme', 'ahci'])('leaves on %s what this machine reads', (name) => {
    const disk = join(folder, `${name}.img`);
    const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
    execFileSync('fsck.ext4', ['-fn', disk], { env });
    const found = execFileSync('debugfs', ['-R', 'cat numbers', disk], { env, maxBuffer: 16 << 20 }).toString();
    expect(found === numbers, found.slice(0, 100)).toBe(true);
  });

  it('is started by the firmware and GRUB from a far disk, with all output on the serial port', () => {
    const said = part('bios');
    expect(said).toContain('Booting from Hard Disk');
    expect(said).toContain(`hash ${bootDisk.hash}`);
    expect(said).toContain('the guest has halted');
    expect(said).toMatch(/^status 0$/m);
    const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
    const seen = execFileSync('debugfs', ['-R', 'cat seen', `${bootDisk.path}?offset=1048576`], { env }).toString();
    expect(seen).toBe('once more\n');
  });

  it('starts GRUB from a far CD/DVD drive by the firmware, which takes keys from the serial port', () => {
    const said = part('disc');
    expect(said).toContain('Booting from DVD/CD');
    expect(said).toMatch(/GNU GRUB +version 2\.06/);
    // GRUB's own `halt` switches the computer off by ACPI.
    expect(said).toMatch(/^status 0$/m);
  });

  it('is chosen by itself, and leaves nothing behind when farbus is killed', () => {
    const said = part('killed');
    expect(said).toMatch(/engine +kvm/);
    expect(said).toContain('x86_64');
    expect(said).toMatch(/descriptors and mappings [1-9]\d* [1-9]\d*, then 0 0$/m);
    expect(said).toContain('processes: .');
    expect(said).toMatch(/^status 0$/m);
  });
});
