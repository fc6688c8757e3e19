/**
 * Disks with leftovers of earlier content: our decision, compared with that of blkid and sfdisk on
 * the same bytes.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, copyFileSync, openSync, readFileSync, readSync, statSync, truncateSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/block/device.js';
import { contentIdentity } from '../../src/probe/identity.js';
import { probeDisk, type DiskLayout } from '../../src/probe/probe.js';
import { openPath } from '../../src/storage/open.node.js';
import { freeSocket, missing } from '../support/nbd-peers.js';
import { tempPath, tempImage } from '../support/temp.js';
import { farbus } from './farbus.js';
import { farbusServe, stop, succeed } from './nbd-target-farbus.js';

const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
process.env['PATH'] = path;
const M = 1 << 20;

function run(program: string, args: readonly string[], input?: string): void {
  execFileSync(program, args, { ...(input !== undefined && { input }), stdio: 'pipe' });
}

/** A disk made by a program. The image's path is appended to the arguments. */
function made(size: number, program: string, ...args: string[]): string {
  const file = tempImage(size);
  run(program, [...args, file]);
  return file;
}

function partitioned(size: number, script: string): string {
  const file = tempImage(size);
  run('sfdisk', ['-q', file], script);
  return file;
}

/** A copy of `file`, after `change` has modified its first 32 MiB. Holes are kept. */
function changed(file: string, change: (bytes: Buffer) => void): string {
  const copy = tempPath('changed.img');
  run('cp', ['--sparse=always', file, copy]);
  const fd = openSync(copy, 'r+');
  try {
    const bytes = Buffer.alloc(Math.min(32 * M, statSync(copy).size));
    readSync(fd, bytes, 0, bytes.length, 0);
    const before = Buffer.from(bytes);
    change(bytes);
    for (let at = 0; at < bytes.length; at += 4096) {
      const page = bytes.subarray(at, at + 4096);
      if (!page.equals(before.subarray(at, at + 4096))) writeSync(fd, page, 0, page.length, at);
    }
  } finally {
    closeSync(fd);
  }
  return copy;
}

/** The result of blkid: TYPE and PTTYPE, or 'ambivalent'. */
function blkid(file: string): string {
  const { status, stdout } = spawnSync('blkid', ['-p', '-o', 'export', file], { encoding: 'utf8' });
  if (status === 8) return 'ambivalent';
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(stdout)?.[1] ?? '-';
  return `${value('TYPE')} ${value('PTTYPE')}`;
}

/** The type of partition table and the partition numbers that sfdisk finds. */
function sfdisk(file: string): string {
  const { status, stdout } = spawnSync('sfdisk', ['-J', file], { encoding: 'utf8' });
  if (status !== 0) return '-';
  const { partitiontable } = JSON.parse(stdout) as {
    partitiontable: { label: string; partitions?: { start: number }[] };
  };
  const starts = (partitiontable.partitions ?? []).map(({ start }) => start);
  return `${partitiontable.label} ${starts.join()}`.trim();
}

async function on<T>(file: string, look: (device: BlockDevice) => Promise<T>): Promise<T> {
  const device = await openPath(file, { readOnly: true });
  try {
    return await look(device);
  } finally {
    await device.close();
  }
}

const probe = (file: string): Promise<DiskLayout> => on(file, probeDisk);
const identityOf = (file: string): Promise<string | undefined> => on(file, contentIdentity);

/** Our result, in the form of {@link blkid} and {@link sfdisk}. */
async function ours(file: string): Promise<{ blkid: string; sfdisk: string; ambiguous: boolean; identity: string }> {
  const { table, content, ambiguous = [] } = await probe(file);
  const label = table && { mbr: 'dos', gpt: 'gpt' }[table.kind];
  return {
    blkid: `${content?.type ?? '-'} ${label ?? '-'}`,
    sfdisk: table ? `${label} ${table.partitions.map(({ start }) => start / 512).join()}`.trim() : '-',
    ambiguous: ambiguous.length > 0,
    identity: (await identityOf(file))?.split(':')[0] ?? '-',
  };
}

const gpt = (): string => partitioned(32 * M, 'label: gpt\nstart=2048,size=8192\nstart=16384,size=4096\n');

function firstSector(file: string): Buffer {
  const sector = Buffer.alloc(512);
  const fd = openSync(file, 'r');
  readSync(fd, sector, 0, 512, 0);
  closeSync(fd);
  return sector;
}

const mbrScript = 'label: dos\nlabel-id: 0x1234abcd\nstart=8192,size=8192,type=c,bootable\nstart=20480,size=6144\n';

/** A disk with a GPT on which another program has then written an MBR. */
function mbrOverGpt(primaryToo: boolean): string {
  const sector = firstSector(partitioned(32 * M, mbrScript));
  return changed(gpt(), (bytes) => {
    sector.copy(bytes);
    if (!primaryToo) bytes.fill(0, 512, 34 * 512);
  });
}

/** A superblock of Linux's RAID, version 1, at byte `at`. */
function putRaid(bytes: Buffer, at: number): void {
  bytes.fill(0, at, at + 4096);
  bytes.writeUInt32LE(0xa92b4efc, at);
  bytes.writeUInt32LE(1, at + 4);
  bytes.fill(7, at + 16, at + 32);
  bytes.writeBigUInt64LE(BigInt(at / 512), at + 144);
}

function putIso(bytes: Buffer): void {
  bytes.write('\x01CD001\x01\0', 32768, 'latin1');
}

describe.skipIf(missing('sfdisk') || missing('blkid'))('leftovers of tables', () => {
  it.each([true, false])(
    'an MBR written over a GPT is the table, even if the GPT at the start is still there: %s',
    async (primaryToo) => {
      const file = mbrOverGpt(primaryToo);
      expect(blkid(file)).toBe('- dos');
      expect(sfdisk(file)).toBe('dos 8192,20480');
      expect(await ours(file)).toEqual({
        blkid: '- dos',
        sfdisk: 'dos 8192,20480',
        ambiguous: true,
        identity: 'mbr',
      });
    },
  );

  it('info, copy and serve agree on it, for people and programs', async () => {
    const file = changed(mbrOverGpt(true), (bytes) => bytes.fill(0x5a, 20480 * 512, 20480 * 512 + 3 * M));
    const info = await farbus('info', file);
    expect(info.stdout).toMatch(/^table +MBR 1234abcd, 2 partitions$/m);
    expect(info.stdout).toMatch(/^ambiguous the disk: it has an old GPT as well: the MBR is used/m);
    const json = JSON.parse((await farbus('info', '--json', file)).stdout) as Record<string, unknown>;
    expect(json).toMatchObject({ table: { kind: 'mbr' }, drive: { follows: 'mbr:1234abcd' } });
    expect(json['ambiguous']).toHaveLength(1);
    const copy = tempPath('p2');
    expect((await farbus('copy', file, '--partition', '2', copy)).code).toBe(0);
    expect(readFileSync(copy).equals(Buffer.alloc(3 * M, 0x5a))).toBe(true);
    const serving = await farbusServe([
      file,
      '--partition',
      '2',
      '--listen',
      `nbd+unix:///?socket=${freeSocket().path}`,
    ]);
    expect((await succeed('nbdinfo', '--size', serving.lines[0]!)).trim()).toBe(`${3 * M}`);
    await stop(serving);
  });

  it('a hybrid MBR leaves the GPT in force, wherever its protective entry is', async () => {
    for (const place of [0, 1, 3]) {
      const file = changed(gpt(), (bytes) => {
        const entry = Buffer.from(bytes.subarray(446, 462));
        bytes.fill(0, 446, 510);
        entry.copy(bytes, 446 + 16 * place);
        const other = 446 + 16 * ((place + 1) % 4);
        bytes[other + 4] = 0x0c;
        bytes.writeUInt32LE(2048, other + 8);
        bytes.writeUInt32LE(8192, other + 12);
      });
      expect(blkid(file)).toBe('- gpt');
      expect(sfdisk(file)).toBe('gpt 2048,16384');
      expect(await ours(file)).toEqual({ blkid: '- gpt', sfdisk: 'gpt 2048,16384', ambiguous: true, identity: 'gpt' });
    }
  });

  it('a GPT without a protective MBR is no table', async () => {
    const file = changed(gpt(), (bytes) => bytes.fill(0, 0, 512));
    expect(blkid(file)).toBe('- -');
    expect(await ours(file)).toEqual({ blkid: '- -', sfdisk: '-', ambiguous: true, identity: '-' });
  });

  it('a GPT that Linux ignores is used, with a warning', async () => {
    const elsewhere = changed(gpt(), (bytes) => void bytes.writeUInt32LE(2, 446 + 8));
    expect(blkid(elsewhere)).toBe('- gpt');
    expect((await probe(elsewhere)).ambiguous?.join()).toContain('does not begin at sector 1');
    const cut = gpt();
    truncateSync(cut, 20 * M);
    expect((await probe(cut)).problems).toContain('the GPT is of a larger disk: Linux does not use it');
  });

  it('a protective MBR without a GPT has no partitions', async () => {
    const file = changed(gpt(), (bytes) => bytes.fill(0, 512, bytes.length));
    expect(blkid(file)).toMatch(/^- (-|PMBR)$/);
    const { table, problems } = await probe(file);
    expect(table).toMatchObject({ kind: 'gpt', id: '', partitions: [] });
    expect(problems.join()).toContain('none can be read');
  });

  it('a physical volume over a GPT is no partitioned disk, although the backup GPT is left', async () => {
    const file = changed(gpt(), (bytes) => {
      bytes.fill(0, 512, 1024);
      bytes.write('LABELONE', 512, 'latin1');
      bytes.writeBigUInt64LE(1n, 520);
      bytes.writeUInt32LE(32, 532);
      bytes.write('LVM2 001', 536, 'latin1');
      bytes.write('a'.repeat(32), 544, 'latin1');
    });
    expect(await ours(file)).toEqual({ blkid: 'LVM2_member -', sfdisk: '-', ambiguous: true, identity: 'LVM2_member' });
  });

  it('a boot sector of FAT that looks like an MBR is FAT', async () => {
    const file = made(32 * M, 'mkfs.vfat', '-F', '16', '--mbr=yes');
    expect(blkid(file)).toBe('vfat -');
    expect(await ours(file)).toEqual({ blkid: 'vfat -', sfdisk: '-', ambiguous: true, identity: 'vfat' });
  });

  it('a superblock in front of partitions gives a warning, and the partitions are used', async () => {
    const sector = firstSector(partitioned(32 * M, mbrScript));
    const file = changed(made(32 * M, 'mkfs.ext4', '-q', '-F'), (bytes) => void sector.copy(bytes));
    expect(blkid(file)).toBe('ext4 dos');
    expect(sfdisk(file)).toBe('dos 8192,20480');
    expect(await ours(file)).toEqual({
      blkid: 'ext4 dos',
      sfdisk: 'dos 8192,20480',
      ambiguous: true,
      identity: 'mbr',
    });
  });

  it('a RAID superblock at the end of the last partition belongs to that partition', async () => {
    const end = 32 * M - 8192;
    const alone = changed(tempImage(32 * M), (bytes) => putRaid(bytes, end));
    expect(await ours(alone)).toMatchObject({ blkid: 'linux_raid_member -' });
    const inside = changed(partitioned(32 * M, 'label: dos\nstart=8192\n'), (bytes) => {
      putRaid(bytes, end);
      bytes.writeBigUInt64LE(BigInt((end - 8192 * 512) / 512), end + 144);
    });
    expect(await ours(inside)).toMatchObject({ blkid: '- dos', ambiguous: false });
    expect((await probe(inside)).table!.partitions[0]!.content).toMatchObject({ type: 'linux_raid_member' });
    // The superblock contains its offset on the disk. So it belongs to the whole disk, or to
    // nothing.
    const whole = changed(partitioned(32 * M, 'label: dos\nstart=8192\n'), (bytes) => putRaid(bytes, end));
    expect(await ours(whole)).toMatchObject({ blkid: '- dos' });
  });

  it.skipIf(missing('xorriso'))('an ISO image that is a partitioned disk as well is nothing unclear', async () => {
    const file = tempPath('hybrid.iso');
    const efi = made(4 * M, 'mkfs.vfat');
    run('xorriso', [
      '-as',
      'mkisofs',
      '-quiet',
      '-V',
      'HYBRID',
      '-o',
      file,
      '-append_partition',
      '2',
      '0xef',
      efi,
      efi,
    ]);
    expect(blkid(file)).toBe('iso9660 dos');
    expect(await ours(file)).toMatchObject({ blkid: 'iso9660 dos', ambiguous: false });
  });
});

describe.skipIf(missing('blkid'))('leftovers and look-alikes of content', () => {
  const xfs = (): string => made(320 * M, 'mkfs.xfs', '-q');
  const ext4 = (size = 32 * M): string => made(size, 'mkfs.ext4', '-q', '-F');

  it('file data at the place of another superblock changes neither the type nor the serial number', async () => {
    const zfs = (bytes: Buffer): void => {
      for (let at = 128 << 10; at < 256 << 10; at += 1024) bytes.writeBigUInt64LE(0xbab10cn, at);
    };
    const swap = (bytes: Buffer): void => void bytes.write('SWAPSPACE2', 65526, 'latin1');
    const btrfs = (bytes: Buffer): void => void bytes.write('_BHRfS_M', 65600, 'latin1');
    const cases: [string, string, (bytes: Buffer) => void][] = [
      ['xfs', xfs(), putIso],
      ['ext4', ext4(96 * M), zfs],
      ['ext4', ext4(), swap],
      ['ext4', ext4(), btrfs],
      ['ntfs', made(16 * M, 'mkfs.ntfs', '-q', '-F', '-Q'), putIso],
      ['f2fs', made(64 * M, 'mkfs.f2fs', '-q'), putIso],
      ['exfat', made(16 * M, 'mkfs.exfat'), putIso],
      ['btrfs', made(128 * M, 'mkfs.btrfs', '-q'), zfs],
    ];
    for (const [type, file, change] of cases) {
      const before = await identityOf(file);
      expect(before?.split(':')[0], type).toBe(type);
      const after = changed(file, change);
      expect(await ours(after), type).toMatchObject({ blkid: `${type} -`, identity: type });
      expect(await identityOf(after)).toBe(before);
      const doubtful = blkid(after) === 'ambivalent';
      if (doubtful) expect((await probe(after)).ambiguous?.join(), type).toMatch(/looks like/);
    }
  });

  it('info of such a disk: one warning, and the same serial number', async () => {
    const file = xfs();
    const before = await farbus('info', file);
    // Use the same path, from which the identity is derived if the disk contains none.
    copyFileSync(changed(file, putIso), file);
    const now = await farbus('info', file);
    const drive = /^drive .*$/m;
    expect(drive.exec(now.stdout)![0]).toBe(drive.exec(before.stdout)![0]);
    expect(now.stdout).toMatch(/^content +xfs /m);
    expect(now.stdout).toMatch(/^ambiguous the disk: it is taken for xfs, and looks like iso9660 as well: .*$/m);
    expect(before.stdout).not.toContain('ambiguous');
  });

  it('two superblocks near the start are ambiguous, by the order of blkid', async () => {
    const other = firstSector(xfs());
    const file = changed(ext4(), (bytes) => void other.copy(bytes));
    expect(blkid(file)).toBe('ambivalent');
    expect(await ours(file)).toMatchObject({ blkid: 'xfs -', ambiguous: true });
  });

  it.skipIf(missing('cryptsetup'))('LUKS2 is known by its second header, where nothing else is there', async () => {
    const file = tempImage(32 * M);
    const options = ['--type', 'luks2', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--label', 'secret'];
    run('cryptsetup', ['-q', 'luksFormat', ...options, file, '-'], 'password');
    const whole = await probe(file);
    const lost = changed(file, (bytes) => bytes.fill(0, 0, 4096));
    expect(blkid(lost)).toBe('crypto_LUKS -');
    expect((await probe(lost)).content).toEqual(whole.content);
    expect(whole.content).toMatchObject({ type: 'crypto_LUKS', label: 'secret' });
    expect(statSync(file).size).toBe(32 * M);
  });

  it('NILFS2 is known by its second superblock', async () => {
    // As mkfs.nilfs2 writes it (Linux, nilfs2_ondisk.h), with a checksum that blkid accepts.
    const size = 32 * M;
    const superblock = nilfs2Superblock(size);
    for (const at of [1024, size - 4096]) {
      const file = changed(tempImage(size), (bytes) => void superblock.copy(bytes, at));
      expect(blkid(file)).toBe('nilfs2 -');
      expect((await probe(file)).content).toEqual({
        kind: 'filesystem',
        type: 'nilfs2',
        label: 'log',
        uuid: '07070707-0707-0707-0707-070707070707',
      });
    }
    const broken = changed(tempImage(size), (bytes) => {
      superblock.copy(bytes, size - 4096);
      bytes[size - 4096 + 30] ^= 1;
    });
    expect(blkid(broken)).toBe('- -');
    expect((await probe(broken)).content).toBeUndefined();
  });
});

function nilfs2Superblock(size: number): Buffer {
  const bytes = Buffer.alloc(1024);
  bytes.writeUInt32LE(2, 0);
  bytes.writeUInt16LE(0x3434, 6);
  bytes.writeUInt16LE(280, 8);
  bytes.writeUInt32LE(0x12345678, 12);
  bytes.writeUInt32LE(2, 20);
  bytes.writeBigUInt64LE(4n, 24);
  bytes.writeBigUInt64LE(BigInt(size), 32);
  bytes.fill(7, 152, 168);
  bytes.write('log', 168, 'latin1');
  let crc = 0x12345678;
  for (const byte of bytes.subarray(0, 280)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  bytes.writeUInt32LE(crc >>> 0, 16);
  return bytes;
}
