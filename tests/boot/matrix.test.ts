/**
 * Guests × buses × protocols. Each cell is a drive that a guest mounts. The guest reads a known
 * file with the right hash and writes another, which the host finds intact; and the drive's
 * identity is the one that the host knows. A computer uses many drives of different kinds and from
 * different servers concurrently, so four boots cover all cells. Without FARBUS_TEST_ALL there is
 * one boot with three drives from three servers; `npm run test:all` has the rest.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { chooseGuest, createComputer, startGuest } from '../../src/app/computer/start.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import type { ClientDrive, DriveBus } from '../../src/computer/drives.js';
import { identifyDevice } from '../../src/computer/identity.js';
import type { DebianRelease } from '../../src/guest/lock.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { farbusServe, freePort, freeSocket, missing } from '../support/nbd-peers.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempFolder } from '../support/temp.js';
import { sha256 } from '../support/sha256.js';

const all = process.env['FARBUS_TEST_ALL'] !== undefined;
const memory = 160 << 20;
const log = { log: () => undefined };
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

const protocols = ['nbd', 'aoe', 'ssh-sftp', 'ssh-dd'] as const;
type Protocol = (typeof protocols)[number];

interface Cell {
  readonly bus: DriveBus;
  readonly protocol: Protocol;
}

const cells = (bus: DriveBus, ...by: readonly Protocol[]): Cell[] => by.map((protocol) => ({ bus, protocol }));

/** One boot each. The board's IDE controller has room for two drives. */
const boots: readonly { readonly release: DebianRelease; readonly kernel: RegExp; readonly cells: readonly Cell[] }[] =
  all
    ? ([12, 11] as const).flatMap((release) => {
        const kernel = release === 12 ? /^6\.1\./ : /^5\.10\./;
        const first = [...cells('nvme', ...protocols), ...cells('ahci', ...protocols), ...cells('ide', 'nbd', 'aoe')];
        return [
          { release, kernel, cells: first },
          { release, kernel, cells: cells('ide', 'ssh-sftp', 'ssh-dd') },
        ];
      })
    : [
        {
          release: 12,
          kernel: /^6\.1\./,
          cells: [...cells('nvme', 'aoe'), ...cells('ahci', 'ssh-dd'), ...cells('ide', 'nbd')],
        },
      ];
if (!all) console.error('3 cells of 24: the whole matrix of guests, buses and protocols is run by npm run test:all');

/** A disk with one known file, on the server's side. */
interface Disk extends Cell {
  readonly path: string;
  readonly known: string;
}

/** A line of a kernel's log that reports an error. A repeated command that ends well is none. */
const trouble = /I\/O error|FAILED Result|EXT4-fs (error|warning)|nobody cared/;

const why = missing('mkfs.ext4') || cannotSshd() !== undefined;

describe.skipIf(why)('drives of different kinds, from different servers, at once', () => {
  it.each(boots)(
    'Debian $release: $cells.length drives',
    async ({ release, kernel, cells: list }) => {
      const folder = tempFolder();
      const disks = list.map((cell, i): Disk => makeDisk(folder, `${i}-${cell.bus}-${cell.protocol}`, cell));
      const drives = await openAll(disks, await serveAll(disks));
      const guest = await chooseGuest({ release, ahci: uses(list, 'ahci'), ide: uses(list, 'ide'), log });
      const computer = await createComputer(drives, memory, { log });
      onTestFinished(() => computer.stop());
      await startGuest(computer, guest, undefined, memory);
      const run = async (command: string): Promise<string> => {
        const { output, status } = await computer.console.run(command, 200_000);
        expect(status, `${command}: ${output}`).toBe(0);
        return output;
      };
      expect(await run('uname -r')).toMatch(kernel);

      const names = await findAll(run, disks);
      // `sync` and `umount` report no failed write, so `fsync` makes each write's result known.
      const use =
        'use() { mkdir -p /mnt/$1 && mount -t ext4 -o errors=remount-ro /dev/$2 /mnt/$1 && ' +
        'k=$(sha256sum < /mnt/$1/known) && dd if=/dev/urandom of=/mnt/$1/new bs=64k count=8 conv=fsync 2>/dev/null && ' +
        'w=$(sha256sum < /mnt/$1/new) && umount /mnt/$1 && echo drive $1 ${k%% *} ${w%% *} || echo drive $1 failed; };';
      // Use all drives concurrently, so that interrupts and answers are interleaved.
      const output = await run(`${use} ${names.map((name, i) => `use ${i} ${name} &`).join(' ')} wait`);
      const kernelLog = await run('dmesg');
      const troubles = kernelLog.split('\n').filter((line) => trouble.test(line));
      expect(troubles, `${output}\n${kernelLog}`).toEqual([]);
      await computer.stop();
      for (const drive of drives) await drive.device!.close();
      for (const [i, disk] of disks.entries()) {
        const cell = `${disk.bus} by ${disk.protocol}`;
        const [, known, written] = new RegExp(`drive ${i} (\\w{64}) (\\w{64})`).exec(output) ?? [];
        expect(known, `${cell}: ${output}\n${kernelLog}`).toBe(disk.known);
        // An option -n would pass over a journal that was not written back.
        execFileSync('e2fsck', ['-f', '-p', disk.path], { env, stdio: 'pipe' });
        const copy = `${disk.path}.new`;
        execFileSync('debugfs', ['-R', `dump new ${copy}`, disk.path], { env, stdio: 'pipe' });
        expect(existsSync(copy), `${cell}: the guest's file is missing\n${kernelLog}`).toBe(true);
        expect(sha256(readFileSync(copy)), `${cell}\n${kernelLog}`).toBe(written);
        expect(readFileSync(copy).length, cell).toBe(8 * 65536);
      }
    },
    500_000,
  );
});

function uses(list: readonly Cell[], bus: DriveBus): boolean {
  return list.some((cell) => cell.bus === bus);
}

function makeDisk(folder: string, name: string, cell: Cell): Disk {
  const files = join(folder, `${name}-files`);
  const path = join(folder, `${name}.img`);
  const known = randomBytes(300_000);
  mkdirSync(files);
  writeFileSync(join(files, 'known'), known);
  writeFileSync(path, '');
  truncateSync(path, 8 << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', '-d', files, path], { env });
  return { ...cell, path, known: sha256(known) };
}

/**
 * Starts a server for each protocol, until the test ends. Resolves with the source of each disk.
 */
async function serveAll(disks: readonly Disk[]): Promise<string[]> {
  const of = (protocol: Protocol): Disk[] => disks.filter((disk) => disk.protocol === protocol);
  const sources = new Map<Disk, string>();
  if (of('nbd').length > 0) {
    const place = freeSocket();
    const exports = of('nbd').map(({ path }, i) => `d${i}=${path}`);
    const server = await farbusServe(place, 'd0', exports);
    onTestFinished(() => server.kill());
    of('nbd').forEach((disk, i) => sources.set(disk, `nbd+unix:///d${i}?socket=${place.path}`));
  }
  for (const disk of of('aoe')) {
    const [a, b] = [await freeUdpPort(), await freeUdpPort()];
    const listen = `aoe:1.0@udp:127.0.0.1:${a}/127.0.0.1:${b}?mtu=9000`;
    const server = await farbusServe(await freePort(), 'd', [`d=${disk.path}`, '--listen', listen]);
    onTestFinished(() => server.kill());
    sources.set(disk, `aoe:1.0@udp:127.0.0.1:${b}/127.0.0.1:${a}?mtu=9000`);
  }
  const ssh = [...of('ssh-sftp'), ...of('ssh-dd')];
  if (ssh.length > 0) {
    const sshd = await Sshd.start();
    process.env['FARBUS_SSH'] = sshd.ssh;
    onTestFinished(async () => {
      delete process.env['FARBUS_SSH'];
      await sshd.stop();
    });
    for (const disk of ssh)
      sources.set(disk, `${disk.protocol === 'ssh-dd' ? 'ssh+dd' : 'ssh+sftp'}://test${disk.path}`);
  }
  return disks.map((disk) => sources.get(disk)!);
}

async function openAll(disks: readonly Disk[], sources: readonly string[]): Promise<ClientDrive[]> {
  const drives: ClientDrive[] = [];
  for (const [i, source] of sources.entries()) {
    const drive = await openClientDrive(parseSource(`${source},bus=${disks[i]!.bus}`), { reconnectSeconds: 60, log });
    onTestFinished(() => drive.device!.close());
    drives.push(drive);
  }
  return drives;
}

/**
 * Finds the guest's name of each disk by the identity that the host derives from the file. It is
 * the same over every protocol.
 */
async function findAll(run: (command: string) => Promise<string>, disks: readonly Disk[]): Promise<string[]> {
  const wwids =
    'for d in /sys/block/nvme* /sys/block/sd*; do [ -e $d ] && echo "${d##*/} $(cat $d/wwid $d/device/wwid 2>/dev/null)"; done';
  const present = `[ $(for d in /sys/block/nvme* /sys/block/sd*; do [ -e $d ] && echo $d; done | wc -l) -ge ${disks.length} ]`;
  await run(`i=0; until ${present}; do i=$((i+1)); [ $i -lt 90 ] || break; sleep 1; done; ${present}`);
  const found = await run(wwids);
  const names: string[] = [];
  for (const { path, bus, protocol } of disks) {
    const file = await openPath(path, { readOnly: true });
    const { uuid, worldWideName } = await identifyDevice(file, log);
    await file.close();
    const digits = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    const dashed = digits(uuid).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    const wwid = bus === 'nvme' ? `uuid\\.${dashed}` : `naa\\.${digits(worldWideName)}`;
    const [, name] = new RegExp(`^(\\w+) ${wwid}\\s*$`, 'm').exec(found) ?? [];
    expect(name, `${bus} by ${protocol}: ${wwid} in ${found}`).toBeDefined();
    names.push(name!);
  }
  expect(new Set(names).size).toBe(disks.length);
  return names;
}

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}
