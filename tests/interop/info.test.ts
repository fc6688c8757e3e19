/**
 * `farbus info` and its probe, compared with blkid and sfdisk, on file systems made by the real
 * mkfs programs.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compare } from '../../src/app/library/copy.js';
import { openSource } from '../../src/app/library/open.js';
import { crc32 } from '../../src/base/crc32.js';
import { Random } from '../../src/conformance/random.js';
import { probeDisk, type DiskLayout } from '../../src/probe/probe.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { openPath } from '../../src/storage/open.node.js';
import { freeUdpPort } from '../support/aoe.js';
import { missing } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop, mount } from '../support/root.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { farbus, startFarbus } from './farbus.js';

const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
process.env['PATH'] = path;

function run(program: string, args: readonly string[], input?: string): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', ...(input !== undefined && { input }), stdio: 'pipe' });
  } catch (error) {
    const { code, status, stdout } = error as { code?: string; status?: number; stdout?: string };
    // A program may succeed and end before it has read answers that it does not need.
    if (code === 'EPIPE' && status === 0) return stdout ?? '';
    throw error;
  }
}

function image(size: number, content?: Uint8Array): string {
  const file = tempPath('disk.img');
  writeFileSync(file, content ?? '');
  truncateSync(file, size);
  return file;
}

async function probe(file: string): Promise<DiskLayout> {
  const device = await openPath(file, { readOnly: true });
  try {
    return await probeDisk(device);
  } finally {
    await device.close();
  }
}

/** A value that blkid finds in the file itself; undefined if there is none. */
function blkid(file: string, name: string): string | undefined {
  try {
    return run('blkid', ['-p', '-o', 'value', '-s', name, file]).replace(/\n$/, '') || undefined;
  } catch (error) {
    if ((error as { status?: unknown }).status === 2) return undefined;
    throw error;
  }
}

async function agrees(file: string): Promise<void> {
  const [type, label, uuid] = ['TYPE', 'LABEL', 'UUID'].map((name) => blkid(file, name));
  const { content } = await probe(file);
  expect(type).toBeDefined();
  expect({ type: content?.type, label: content?.label, uuid: content?.uuid }).toEqual({ type, label, uuid });
}

const M = 1 << 20;
/** Programs and their arguments. The image's path is appended. */
const makers: readonly (readonly [name: string, size: number, program: string, ...args: string[]])[] = [
  ['ext2', 8 * M, 'mkfs.ext2', '-q', '-F', '-L', 'my disk'],
  ['ext3', 16 * M, 'mkfs.ext3', '-q', '-F', '-L', 'three'],
  ['ext4', 16 * M, 'mkfs.ext4', '-q', '-F'],
  ['ext4 without a journal', 16 * M, 'mkfs.ext4', '-q', '-F', '-O', '^has_journal', '-L', 'möbel'],
  ['FAT12', 2 * M, 'mkfs.vfat', '-F', '12', '-n', 'TWELVE'],
  ['FAT16', 16 * M, 'mkfs.vfat', '-F', '16', '-n', 'SIXTEEN B'],
  ['FAT32', 64 * M, 'mkfs.vfat', '-F', '32', '-n', 'BIG'],
  ['FAT without a label', 16 * M, 'mkfs.vfat'],
  ['FAT with sectors of 4096 bytes', 64 * M, 'mkfs.vfat', '-S', '4096', '-n', 'NATIVE'],
  ['exFAT', 16 * M, 'mkfs.exfat', '-L', 'Straße'],
  ['NTFS', 16 * M, 'mkntfs', '-q', '-Q', '-F', '-L', 'Fenster'],
  ['XFS', 310 * M, 'mkfs.xfs', '-q', '-L', 'xlabel'],
  ['Btrfs', 120 * M, 'mkfs.btrfs', '-q', '-L', 'b tree'],
  ['F2FS', 64 * M, 'mkfs.f2fs', '-q', '-l', 'flash'],
  ['swap', 4 * M, 'mkswap', '-L', 'paging'],
  ['swap of larger pages', 4 * M, 'mkswap', '-p', '65536'],
  [
    'LUKS 1',
    16 * M,
    'cryptsetup',
    'luksFormat',
    '-q',
    '--type',
    'luks1',
    '--pbkdf-force-iterations',
    '1000',
    '-d',
    '-',
  ],
  [
    'LUKS 2',
    24 * M,
    'cryptsetup',
    ...['luksFormat', '-q', '--label', 'secret', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '-d', '-'],
  ],
];

describe.skipIf(missing('blkid'))('content as blkid names it', () => {
  for (const [name, size, program, ...args] of makers) {
    it.skipIf(missing(program))(name, async () => {
      const file = image(size);
      run(program, [...args, file], 'a key');
      await agrees(file);
    });
  }

  it.skipIf(missing('mksquashfs'))('squashfs', async () => {
    const file = tempPath('x.squashfs');
    run('mksquashfs', [tempFolder(), file, '-quiet', '-no-progress']);
    truncateSync(file, 64 << 10);
    await agrees(file);
  });

  it.skipIf(missing('xorriso'))('ISO 9660', async () => {
    const file = tempPath('x.iso');
    run('xorriso', ['-as', 'mkisofs', '-quiet', '-V', 'A DISC', '-o', file, tempFolder()]);
    await agrees(file);
  });

  it.skipIf(missing('mkudffs'))('UDF', async () => {
    const file = image(16 * M);
    run('mkudffs', ['-b', '2048', file]);
    expect((await probe(file)).content?.type).toBe(blkid(file, 'TYPE'));
  });

  it('an LVM2 physical volume', async () => {
    const sector = new Uint8Array(512);
    const put = (at: number, text: string): void => void new TextEncoder().encodeInto(text, sector.subarray(at));
    put(0, 'LABELONE');
    put(24, 'LVM2 001');
    put(32, 'abcdefABCD0123efghIJKLmnopqrstuv');
    const view = new DataView(sector.buffer);
    view.setBigUint64(8, 1n, true);
    view.setUint32(20, 32, true);
    view.setUint32(16, lvmChecksum(sector.subarray(20)), true);
    const disk = new Uint8Array(2 * M);
    disk.set(sector, 512);
    await agrees(image(disk.length, disk));
  });

  it('ZFS and UFS by bytes of our own', async () => {
    const zfs = new Uint8Array(64 * M);
    const view = new DataView(zfs.buffer);
    for (let at = 128 << 10; at < 256 << 10; at += 1024) view.setBigUint64(at, 0x00bab10cn, true);
    // blkid requires several labels.
    for (const label of [256 << 10, zfs.length - (512 << 10), zfs.length - (256 << 10)]) {
      zfs.copyWithin(label, 0, 256 << 10);
    }
    await agrees(image(zfs.length, zfs));

    const ufs = new Uint8Array(2 * M);
    const superblock = new DataView(ufs.buffer, 65536);
    superblock.setUint32(1372, 0x19540119, true);
    superblock.setUint32(144, 0x11223344, true);
    superblock.setUint32(148, 0x55667788, true);
    new TextEncoder().encodeInto('beastie', ufs.subarray(65536 + 680));
    await agrees(image(ufs.length, ufs));
  });
});

/** LVM2's own CRC: with another initial value and no final inversion. */
function lvmChecksum(bytes: Uint8Array): number {
  let crc = 0xf597a6cf;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return crc >>> 0;
}

interface SfdiskTable {
  readonly partitiontable: {
    readonly label: string;
    readonly id: string;
    readonly sectorsize?: number;
    readonly partitions: readonly {
      readonly node: string;
      readonly start: number;
      readonly size: number;
      readonly type: string;
      readonly uuid?: string;
      readonly name?: string;
      readonly bootable?: boolean;
    }[];
  };
}

async function tableAgrees(file: string): Promise<DiskLayout> {
  const layout = await probe(file);
  const { partitiontable: wanted } = JSON.parse(run('sfdisk', ['--json', file])) as SfdiskTable;
  const gpt = wanted.label === 'gpt';
  expect(layout.table!.kind).toBe(gpt ? 'gpt' : 'mbr');
  expect(layout.table!.id).toBe(gpt ? wanted.id.toLowerCase() : wanted.id.replace(/^0x/, ''));
  const got = layout.table!.partitions.map(({ number, start, size, typeId, uuid, name, bootable }) => ({
    number,
    start,
    size,
    typeId: gpt ? typeId : typeId.replace(/^0x0?/, ''),
    ...(gpt && { uuid }),
    ...(name !== undefined && { name }),
    bootable,
  }));
  const sector = wanted.sectorsize ?? 512;
  expect(got).toEqual(
    wanted.partitions.map(({ node, start, size, type, uuid, name, bootable }) => ({
      number: Number(/(\d+)$/.exec(node)![1]),
      start: start * sector,
      size: size * sector,
      typeId: type,
      ...(gpt && { uuid: uuid!.toLowerCase() }),
      ...(name !== undefined && { name }),
      bootable: bootable ?? false,
    })),
  );
  return layout;
}

describe.skipIf(missing('sfdisk'))('partition tables as sfdisk reads them', () => {
  it('MBR with logical partitions', async () => {
    const file = image(256 * M);
    const lines = ['size=20M,type=c,bootable', 'size=10M', 'size=100M,type=f', 'size=10M,type=82'];
    run('sfdisk', ['-q', file], ['label: dos', ...lines, 'size=5M', 'size=6M,type=8e', 'size=7M'].join('\n'));
    const { problems } = await tableAgrees(file);
    expect(problems).toEqual([]);
  });

  it('GPT', async () => {
    const file = image(64 * M);
    const lines = [
      'size=4M,type=U,name="EFI \\"x\\" ü"',
      'size=1M,type=21686148-6449-6E6F-744E-656564454649',
      'name=root',
    ];
    run('sfdisk', ['-q', file], ['label: gpt', ...lines].join('\n').replaceAll('\\"', ''));
    const { problems } = await tableAgrees(file);
    expect(problems).toEqual([]);
  });

  it('GPT with partitions that are not in order, and content in them', async () => {
    const file = image(64 * M);
    run('sfdisk', ['-q', file], 'label: gpt\nstart=40960,size=20480\nstart=2048,size=20480\n');
    const content = image(10 * M);
    run('mkfs.ext4', ['-q', '-F', '-L', 'inner', content]);
    run('dd', ['if=' + content, 'of=' + file, 'bs=512', 'seek=40960', 'conv=notrunc,sparse', 'status=none']);
    const { table } = await tableAgrees(file);
    expect(table!.partitions.map((one) => one.content?.label)).toEqual(['inner', undefined]);
  });

  it('a GPT whose first copy is lost is read from its backup, with a warning', async () => {
    const file = image(32 * M);
    run('sfdisk', ['-q', file], 'label: gpt\nsize=4M\nsize=5M,name=second\n');
    const whole = (await tableAgrees(file)).table!;
    const bytes = new Uint8Array(readFileSync(file));
    bytes.fill(0, 512, 1024);
    const lost = await probeDisk(new MemoryDevice(bytes.slice()));
    expect(lost.table).toEqual(whole);
    expect(lost.problems).toEqual(['the GPT at the start is missing: its backup at the end was used']);
    const grown = new Uint8Array(bytes.length + M);
    grown.set(readFileSync(file));
    expect((await probeDisk(new MemoryDevice(grown))).problems.join()).toContain('larger than the table knows');
    const cut = new Uint8Array(readFileSync(file)).slice(0, 20 * M);
    expect((await probeDisk(new MemoryDevice(cut))).problems.join()).toContain('smaller than the table knows');
  });

  it('a whole disk that is a file system has no table, though it begins as one does', async () => {
    const file = image(64 * M);
    run('mkfs.vfat', ['-F', '32', file]);
    expect((await probe(file)).table).toBeUndefined();
  });
});

describe('farbus info', () => {
  it('prints for people and for programs', async () => {
    const file = image(16 * M);
    run('mkfs.ext4', ['-q', '-F', '-L', 'hello', file]);
    const plain = await farbus('info', file);
    expect(plain.stderr).toBe('');
    expect(plain.stdout).toMatch(/^size +16\.0 MiB \(16777216 bytes\)$/m);
    expect(plain.stdout).toMatch(/^content +ext4 "hello" [0-9a-f-]{36}$/m);
    expect(plain.stdout).toMatch(/^nature +writable(, rotational)?$/m);
    expect(plain.stdout).toMatch(/^drive +serial [0-9a-f]{20}, wwn 0x3[0-9a-f]{15}, from its ext4:[0-9a-f-]{36}$/m);
    const json = JSON.parse((await farbus('info', '--json', file)).stdout) as Record<string, unknown>;
    expect(json).toMatchObject({
      size: 16 * M,
      blockSize: 1,
      readOnly: false,
      content: { type: 'ext4' },
      problems: [],
    });
  });

  const noLoop = cannotLoop();
  if (noLoop !== undefined) console.error(`SKIPPED: info of a disk in use: ${noLoop}`);
  it.skipIf(noLoop !== undefined)('recommends for a disk in use an option that it accepts itself', async () => {
    const file = image(8 * M);
    run('mkfs.ext4', ['-q', '-F', file]);
    const disk = attachLoop(file);
    const unmount = mount(disk, tempFolder());
    const { stdout } = await farbus('info', disk);
    expect(stdout).toMatch(
      /^nature +read-only \(.* is mounted at .*: unmount it, or add ,read-only to it\)(, rotational)?$/m,
    );
    for (const args of [[`${disk},read-only`], [disk, '--read-only']]) {
      const result = await farbus('info', ...args);
      expect(result.stdout).toMatch(/^nature +read-only(, rotational)?$/m);
    }
    unmount();
  });

  it.each([
    [[], 2, /SOURCE/],
    [['a', 'b'], 2, /one source/],
    [['/no/such/disk'], 1, /no such file/],
    [['gopher://x/y'], 2, /no such kind of source/],
    [['nbd://127.0.0.1:1/x', '--reconnect', '0'], 1, /127\.0\.0\.1/],
  ])('reports errors in one line: %j', async (args, code, message) => {
    const result = await farbus('info', ...args);
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toMatch(/^farbus: [^\n]+\n$/);
    expect(result.stderr).toMatch(message);
  });
});

describe('changes nothing', () => {
  function hasNamelessFiles(folder: string): boolean {
    try {
      closeSync(openSync(folder, 0o20000000 | constants.O_DIRECTORY | constants.O_RDWR, 0o600));
      return true;
    } catch {
      return false;
    }
  }

  /** Every file of a folder, with all that a change would change. */
  function snapshot(folder: string): string[] {
    return readdirSync(folder, { withFileTypes: true }).map(({ name }) => {
      const stat = lstatSync(join(folder, name), { bigint: true });
      const hash = createHash('sha256').update(stat.isFile() ? readFileSync(join(folder, name)) : '');
      return [name, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs, hash.digest('hex')].join(' ');
    });
  }

  it('on files, overlays and caches', async () => {
    const folder = tempFolder();
    const disk = join(folder, 'disk.img');
    writeFileSync(disk, new Random(7).bytes(1 << 20));
    const [overlay, cache, kept] = ['o', 'c', 'k'].map((name) => join(folder, name)) as [string, string, string];
    for (const filter of [`overlay=${overlay}`, `cache=${cache}`, `cache=${kept},cache-keep`]) {
      const device = await openSource(`${disk},${filter}`);
      await device.read(0, new Uint8Array(65536));
      if (filter.startsWith('overlay')) await device.write(0, new Uint8Array(4096));
      await device.close();
    }
    const writer = await openSource(disk);
    const { can } = writer.info;
    await writer.close();
    const before = snapshot(folder);
    const told = JSON.parse((await farbus('info', '--json', disk)).stdout) as { can: object };
    // Holes are tried on a file without a name, which some file systems cannot make.
    if (hasNamelessFiles(folder)) expect(told.can).toEqual(can);
    else expect(told.can).toMatchObject({ flush: true, extents: can.extents });
    for (const filter of [`overlay=${overlay}`, `cache=${cache}`, `cache=${kept},cache-keep`, `cache=${kept}`]) {
      expect((await farbus('info', `${disk},${filter}`)).code, filter).toBe(0);
    }
    expect(snapshot(folder)).toEqual(before);
    const refused = await farbus('info', `${disk},cache=${overlay}`);
    expect(refused.stderr).toBe(`farbus: ${overlay} is not a cache: give another path\n`);
    expect(snapshot(folder)).toEqual(before);
  });

  it('nor does a copy make or change the overlay of its source', async () => {
    const folder = tempFolder();
    const disk = join(folder, 'disk.img');
    writeFileSync(disk, new Random(7).bytes(1 << 20));
    const overlay = join(folder, 'o');
    const device = await openSource(`${disk},overlay=${overlay}`);
    await device.write(0, new Uint8Array(4096));
    await device.close();
    const before = snapshot(folder);
    const target = join(tempFolder(), 'copy.img');
    expect((await farbus('copy', `${disk},overlay=${overlay}`, target)).code).toBe(0);
    expect(readFileSync(target).subarray(0, 4096)).toEqual(Buffer.alloc(4096));
    expect((await farbus('copy', `${disk},overlay=${join(folder, 'new')}`, target)).code).toBe(0);
    expect(await compare(`${disk},overlay=${join(folder, 'new')}`, target)).toBeUndefined();
    expect(snapshot(folder)).toEqual(before);
    const reader = await openSource(`${disk},overlay=${overlay}`, { readOnly: true });
    await expect(reader.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'read-only' });
    await reader.close();
  });
});

it('crc32 is the one of [UEFI]', () => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
});

it('lists the AoE targets on a segment', async () => {
  const [near, far] = [await freeUdpPort(), await freeUdpPort()];
  const listen = `aoe:1.0@udp:127.0.0.1:${far}/127.0.0.1:${near}`;
  const segment = `udp:127.0.0.1:${near}/127.0.0.1:${far}`;
  const nothing = await farbus('info', `aoe:@${segment}`);
  expect(nothing).toMatchObject({ code: 1, stdout: '' });
  expect(nothing.stderr).toMatch(/^farbus: no AoE target answers on udp:[^\n]+\n$/);
  const server = startFarbus('serve', `a=${image(1 << 20)}`, `b=${image(1 << 20)}`, '--listen', listen);
  await server.printed(/\n/);
  const { code, stdout, stderr } = await farbus('info', `aoe:@${segment}`);
  expect(code, stderr).toBe(0);
  const lines = stdout.trimEnd().split('\n');
  expect(lines.map((line) => line.split('  ')[0])).toEqual([`aoe:1.0@${segment}`, `aoe:1.1@${segment}`]);
  const json = JSON.parse((await farbus('info', '--json', `aoe:@${segment}`)).stdout) as { targets: unknown[] };
  expect(json.targets[1]).toMatchObject({ source: `aoe:1.1@${segment}`, mac: expect.stringMatching(/^(..:){5}..$/) });
  server.child.kill('SIGTERM');
  await server.ended;
});
