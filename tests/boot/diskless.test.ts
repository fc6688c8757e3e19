/**
 * A diskless computer: the BIOS loads the boot record, GRUB, the kernel and the root file system
 * from a far disk; none of them is on this side. `farbus guest-disk` made the disk, a minimal
 * Debian. The test waits for the login prompt, logs in, writes a file, and checks with the host's
 * tools that the served image contains it.
 *
 * The disk is on AHCI, over NBD. With FARBUS_TEST_ALL also on NVMe and IDE, over AoE and over ssh.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  admin,
  bootMs,
  checkDisk,
  debugfs,
  makeDisk as makeDiskIn,
  partition,
  useDisk,
} from '../support/guest-disk.js';
import { freePort } from '../support/nbd-peers.js';
import { farbusHere } from '../support/screen-cli.js';
import { ServeProcess } from '../support/server.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempFolder } from '../support/temp.js';

const all = Boolean(process.env['FARBUS_TEST_ALL']);

let folder: string;

beforeAll(() => {
  folder = tempFolder();
});

const makeDisk = (): Promise<string> => makeDiskIn(folder);

/** Boots Debian from `source`, writes there, and checks that `image` contains it. */
async function useAndCheck(source: string, image: string): Promise<void> {
  await useDisk(source);
  checkDisk(image);
}

describe('a disk of farbus guest-disk', () => {
  it('contains a clean file system whose files have the packages’ owners', async () => {
    const image = await makeDisk();
    execFileSync('e2fsck', ['-f', '-n', image + partition], { env: admin, stdio: 'pipe' });
    expect(debugfs(image, 'stat /etc/shadow')).toMatch(/Mode: +0640[^]*User: +0 +Group: +42 /);
    expect(debugfs(image, 'stat /usr/bin/su')).toMatch(/Mode: +04755[^]*User: +0 +Group: +0 /);
    expect(debugfs(image, 'stat /usr/bin/chage')).toMatch(/Mode: +02755[^]*User: +0 +Group: +42 /);
    expect(debugfs(image, 'stat /bin')).toContain('Fast link dest: "usr/bin"');
  }, 400_000);

  it('is not made over an existing file or with an impossible size', async () => {
    const image = await makeDisk();
    expect((await farbusHere(['guest-disk', image], folder)).stderr).toBe(
      `farbus: ${image} exists: --force replaces it\n`,
    );
    const small = join(folder, 'small.img');
    expect(await farbusHere(['guest-disk', '--size', '16M', small], folder)).toMatchObject({
      status: 2,
      stderr: 'farbus: --size 16M: expected 256M to 64G, in whole mebibytes\n',
    });
    expect(existsSync(small)).toBe(false);
    expect(await farbusHere(['guest-disk', '--quiet', '--force', image], folder)).toMatchObject({
      status: 0,
      stderr: '',
    });
  }, 400_000);
});

describe('a diskless computer', () => {
  const buses = all ? ['ahci', 'nvme', 'ide'] : ['ahci'];
  it.each(buses)(
    'boots from a far disk over NBD to its login prompt, as %s, and writes there',
    async (bus) => {
      const image = await makeDisk();
      const server = new ServeProcess(join(folder, `sock-${bus}`), [`disk=${image}`]);
      await server.start();
      try {
        await useAndCheck(`${server.uri('disk')},bus=${bus}`, image);
      } finally {
        await server.stop();
      }
    },
    bootMs + 300_000,
  );

  it.runIf(all)(
    'boots over ATA over Ethernet',
    async () => {
      const image = await makeDisk();
      const [here, there] = [await freePort(), await freePort()];
      const segment = (mine: number, other: number): string => `udp:127.0.0.1:${mine}/127.0.0.1:${other}?mtu=9000`;
      const args = ['bin/farbus.js', 'serve', image, '--json', '--listen'];
      const server = spawn(process.execPath, [...args, `aoe:1.0@${segment(there.port, here.port)}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        await once(createInterface({ input: server.stdout }), 'line');
        await useAndCheck(`aoe:1.0@${segment(here.port, there.port)},bus=ahci`, image);
      } finally {
        await ended(server);
      }
    },
    bootMs + 300_000,
  );

  const noSshd = all ? cannotSshd() : 'only with FARBUS_TEST_ALL';
  it.runIf(noSshd === undefined)(
    'boots over ssh from a server without Farbus',
    async () => {
      const image = await makeDisk();
      const sshd = await Sshd.start();
      process.env['FARBUS_SSH'] = sshd.ssh;
      try {
        await useAndCheck(`ssh://test${image},bus=ahci`, image);
      } finally {
        delete process.env['FARBUS_SSH'];
        await sshd.stop();
      }
    },
    bootMs + 300_000,
  );
});

async function ended(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

afterAll(() => {
  if (!all) console.log('NOT RUN: booting from NVMe and IDE disks, over AoE and ssh; npm run test:all does');
});
