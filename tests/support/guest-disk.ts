/**
 * A Debian on a disk that boots by itself (`farbus guest-disk`): made, booted by the BIOS from a
 * far disk, written by its own commands, and checked with the host's tools.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createComputer } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import { login } from '../../src/guest/disk/configuration.js';
import { prepareFirmware } from '../../src/guest/firmware.node.js';
import { farbusHere } from './screen-cli.js';

const log = { log: () => undefined };
export const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
/** Offset of the partition that farbus guest-disk makes: fdisk's usual one. */
export const partition = '?offset=1048576';
/** Limit of a boot, which takes half a minute on a free processor. */
export const bootMs = 400_000;

let files = 0;

/** A fresh disk, as the command makes it. The first is made of packages, the others are copied. */
export async function makeDisk(folder: string): Promise<string> {
  const path = join(folder, `disk-${++files}.img`);
  const { status, stderr } = await farbusHere(['guest-disk', path], folder);
  expect(status, stderr).toBe(0);
  expect(stderr).toContain(`log in as ${login.user}, password ${login.password}`);
  return path;
}

/** Boots Debian from `source` and writes a file there. */
export async function useDisk(source: string): Promise<void> {
  const drive = await openClientDrive(parseSource(source), { log });
  const computer = await createComputer([drive], 128 << 20, { log, firmware: await prepareFirmware() });
  const { console } = computer;
  try {
    computer.bootFirmware();
    await console.waitFor(/diskless login: /, bootMs);
    // The screen has a getty of its own.
    await computer.screen!.waitFor(/diskless login:/, 60_000);
    await console.send(`${login.user}\n`);
    await console.waitFor(/Password: /, 60_000);
    await console.send(`${login.password}\n`);
    await console.waitFor(/# /, 60_000);
    const run = async (command: string): Promise<string> => {
      const { output, status } = await console.run(command, 120_000);
      expect(status, `${command}: ${output}`).toBe(0);
      return output;
    };
    expect(await run('. /etc/os-release; echo $PRETTY_NAME; whoami; uname -m')).toMatch(
      /^Debian GNU\/Linux 12 \(bookworm\)\nroot\ni686\n$/,
    );
    expect(await run('dpkg-query -W bash apt dpkg | wc -l')).toBe('3\n');
    expect(await run('apt-get --version | head -n 1')).toMatch(/^apt 2\.6/);
    expect(await run('awk \'$2 == "/" { print $1, $3, substr($4, 1, 2) }\' /proc/mounts')).toMatch(
      /^\/dev\/(sda1|nvme0n1p1) ext4 rw\n$/,
    );
    await run('seq 1 20000 > /root/numbers && mkdir /srv/made && sync');
    await console.send('halt\n');
    expect(await computer.ended).toBe('halted');
  } finally {
    await computer.stop();
    await drive.device?.close();
  }
}

/** Checks that an image has what {@link useDisk} wrote, and a clean file system. */
export function checkDisk(image: string): void {
  const numbers = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('');
  expect(debugfs(image, 'cat /root/numbers')).toBe(numbers);
  expect(debugfs(image, 'stat /srv/made')).toContain('Type: directory');
  // Left clean by its shutdown.
  execFileSync('e2fsck', ['-f', '-n', image + partition], { env: admin, stdio: 'pipe' });
  expect(debugfs(image, 'show_super_stats -h')).toMatch(/Filesystem state: +clean/);
}

export function debugfs(image: string, request: string): string {
  const options = { env: admin, stdio: ['ignore', 'pipe', 'ignore'] as ['ignore', 'pipe', 'ignore'] };
  return execFileSync('debugfs', ['-R', request, image + partition], options).toString();
}
