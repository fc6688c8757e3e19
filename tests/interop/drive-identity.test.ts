/**
 * One disk through every protocol: a guest is told the same serial number and names, whichever
 * server it comes from.
 */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { farbusServe, freePort, freeSocket, missing, nbdkit, qemuNbd, type NbdPeer } from '../support/nbd-peers.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempPath, tempImage } from '../support/temp.js';
import { farbus } from './farbus.js';

process.env['PATH'] = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

interface Drive {
  readonly serial: string;
  readonly uuid: string;
  readonly wwn: string;
  readonly follows: string;
}

async function drive(source: string): Promise<Drive> {
  const { code, stdout, stderr } = await farbus('info', source, '--json');
  expect(code, stderr).toBe(0);
  return (JSON.parse(stdout) as { drive: Drive }).drive;
}

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}

/** Registers a server for the rest of the test. */
async function during(server: Promise<NbdPeer>): Promise<NbdPeer> {
  const peer = await server;
  onTestFinished(() => peer.kill());
  return peer;
}

/** The ways to access one file, by name. */
const ways: Readonly<Record<string, (file: string) => Promise<Drive>>> = {
  'a path': (file) => drive(file),
  'farbus serve': async (file) =>
    drive((await during(farbusServe(await freePort(), 'd', [`d=${file},read-only`]))).uri),
  nbdkit: async (file) => drive((await during(nbdkit(freeSocket(), ['-r', 'file', file]))).uri),
  'qemu-nbd': async (file) => drive((await during(qemuNbd(freeSocket(), file, ['--read-only']))).uri),
  'AoE on a segment': async (file) => {
    const [a, b] = [await freeUdpPort(), await freeUdpPort()];
    const listen = ['--listen', `aoe:1.0@udp:127.0.0.1:${a}/127.0.0.1:${b}`];
    await during(farbusServe(await freePort(), 'd', [`d=${file},read-only`, ...listen]));
    return drive(`aoe:1.0@udp:127.0.0.1:${b}/127.0.0.1:${a}`);
  },
  'an image in a format': async (file) => {
    const qcow2 = tempPath('disk.qcow2');
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', file, qcow2]);
    return drive(`qcow2:${qcow2}`);
  },
};
const sshWays = { SFTP: 'ssh+sftp', 'dd over ssh': 'ssh+dd' };

describe.skipIf(missing('sfdisk') || missing('mkfs.ext4') || missing('nbdkit') || missing('qemu-nbd'))(
  'a drive',
  () => {
    it.skipIf(cannotSshd())(
      'with a partition table, or a file system, is the same by every way',
      async () => {
        const disks = [tempImage(8 << 20), tempImage(8 << 20), tempImage(8 << 20)] as const;
        execFileSync('sfdisk', ['-q', disks[0]], { input: 'label: gpt\nsize=4M\n', stdio: 'pipe' });
        execFileSync('sfdisk', ['-q', disks[1]], { input: 'label: dos\nsize=4M\n', stdio: 'pipe' });
        execFileSync('mkfs.ext4', ['-q', '-F', disks[2]]);
        const sshd = await Sshd.start();
        process.env['FARBUS_SSH'] = sshd.ssh;
        onTestFinished(async () => {
          delete process.env['FARBUS_SSH'];
          await sshd.stop();
        });
        const wanted = await Promise.all(disks.map((disk) => drive(disk)));
        expect(wanted.map(({ follows }) => follows.split(':')[0])).toEqual(['gpt', 'mbr', 'ext4']);
        expect(new Set(wanted.map(({ serial }) => serial)).size).toBe(3);
        for (const [i, disk] of disks.entries()) {
          // The first disk is checked in every way. The others differ only in their content, which
          // is the same in every way.
          for (const [name, way] of Object.entries(ways)) {
            if (i === 0 || name === 'AoE on a segment') expect(await way(disk), name).toEqual(wanted[i]);
          }
          for (const [name, scheme] of Object.entries(sshWays)) {
            expect(await drive(`${scheme}://test${disk}`), name).toEqual(wanted[i]);
          }
        }
      },
      240_000,
    );

    it('keeps its name when it is copied, grows, or passes another server; a new partition table changes it', async () => {
      const disk = tempImage(8 << 20);
      execFileSync('sfdisk', ['-q', disk], { input: 'label: gpt\nsize=4M\n', stdio: 'pipe' });
      const before = await drive(disk);
      const copy = tempPath('copy.img');
      writeFileSync(copy, readFileSync(disk));
      truncateSync(copy, 16 << 20);
      expect(await drive(copy)).toEqual(before);
      execFileSync('sfdisk', ['-q', '--wipe', 'always', disk], { input: 'label: gpt\nsize=2M\n', stdio: 'pipe' });
      expect((await drive(disk)).serial).not.toBe(before.serial);
    });

    it('that is empty is known by its name, the same at every start', async () => {
      const disk = tempImage(8 << 20);
      const first = await drive(disk);
      expect(first.follows).toBe('name');
      expect(await drive(disk)).toEqual(first);
      expect((await drive(tempImage(8 << 20))).serial).not.toBe(first.serial);
    });
  },
);
