/**
 * What Linux tells about a block device outside of the device itself: /sys/dev/block (sysfs), /proc/self/mountinfo
 * (proc(5)) and /proc/swaps. Everything is optional: what cannot be read is not known.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { markOf, type DiskMarks } from '../block/identity.js';
import { bootId } from './boot-id.node.js';

/** What sysfs says of one block device. */
export interface BlockFacts {
  /** "8:1", as files of the system name the device. */
  readonly number: string;
  /** Bytes; undefined where it is not known. */
  readonly size: number | undefined;
  /** Smallest addressable unit in bytes; undefined where it is not known. */
  readonly blockSize: number | undefined;
  readonly removable: boolean;
  /** It is a part of a disk. */
  readonly partition: boolean;
  readonly rotational: boolean;
  readonly readOnly: boolean;
  /** Whether the device can be told that blocks are not needed. */
  readonly discard: boolean;
  /** Whether it zeroes blocks by itself. */
  readonly zeroes: boolean;
  /** World-wide name of the disk, with the partition's number where it is one; '' where it is not known. */
  readonly wwid: string;
  /** By what the disk is recognised later (block/identity.ts); a partition's name its place as well. */
  readonly marks: DiskMarks;
  /** Numbers of the device itself, the disk that it is on, and the partitions on it: who uses one uses it. */
  readonly related: readonly string[];
  /** Names of the devices built on it (device mapper, RAID). */
  readonly holders: readonly string[];
}

/** The "MAJOR:MINOR" of a device number as stat(2) gives it (makedev(3)). */
export function deviceNumber(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/**
 * Whether the file that is open is on a disk that rotates: what the kernel says of the block device that the file system
 * is on (queue/rotational; a partition has its disk's queue; device mapper, RAID and loop devices answer for what is below
 * them). False where no block device is known: memory, overlays, file systems of the network.
 * @param device its `st_dev`, stat(2)
 */
export async function rotates(fd: number, device: bigint): Promise<boolean> {
  let folder = await realpath(`/sys/dev/block/${deviceNumber(device)}`).catch(() => undefined);
  if (folder === undefined) {
    // Some file systems (btrfs) have numbers of their own, and only the mount names the device (proc(5), fdinfo).
    const id = /^mnt_id:\s*(\d+)$/m.exec(await readFile(`/proc/self/fdinfo/${fd}`, 'utf8').catch(() => ''))?.[1];
    const source = (await mounts()).find((mount) => mount.id === id)?.source ?? '';
    if (!source.startsWith('/')) return false;
    const found = await stat(source, { bigint: true }).catch(() => undefined);
    if (!found?.isBlockDevice()) return false;
    folder = await realpath(`/sys/dev/block/${deviceNumber(found.rdev)}`).catch(() => undefined);
    if (folder === undefined) return false;
  }
  for (const at of ['queue', '../queue']) {
    const text = await readFile(join(folder, at, 'rotational'), 'utf8').catch(() => undefined);
    if (text !== undefined) return text.trim() === '1';
  }
  return false;
}

/** Reads what sysfs knows of the device with this number. */
export async function blockFacts(number: string): Promise<BlockFacts> {
  const folder = await realpath(`/sys/dev/block/${number}`).catch(() => undefined);
  const text = async (...names: string[]): Promise<string> =>
    folder === undefined ? '' : (await readFile(join(folder, ...names), 'utf8').catch(() => '')).trim();
  const partition = await text('partition');
  // Queue, name and medium are the whole disk's.
  const disk = partition === '' ? '.' : '..';
  const sectors = await text('size');
  const wwid = (await text(disk, 'wwid')) || (await text(disk, 'device', 'wwid'));
  const serial = wwid || (await text(disk, 'serial')) || (await text(disk, 'device', 'serial'));
  const sequence = await text(disk, 'diskseq');
  const boot = sequence === '' ? '' : await bootId();
  const part = partition === '' ? '' : `-part${partition}`;
  const mark = (fact: string): string | undefined => {
    const value = markOf(fact);
    return value && value + part;
  };
  return {
    number,
    size: /^\d+$/.test(sectors) ? Number(sectors) * 512 : undefined,
    blockSize: Number(await text(disk, 'queue', 'logical_block_size')) || undefined,
    partition: partition !== '',
    removable: (await text(disk, 'removable')) === '1',
    rotational: (await text(disk, 'queue', 'rotational')) === '1',
    readOnly: (await text('ro')) === '1',
    discard: Number(await text(disk, 'queue', 'discard_max_bytes')) > 0,
    zeroes: Number(await text(disk, 'queue', 'write_zeroes_max_bytes')) > 0,
    wwid: wwid === '' ? wwid : wwid + part,
    marks: {
      hardware: mark(serial),
      // A device-mapper partition has a UUID of its own.
      layer: markOf(await text('dm', 'uuid')),
      sequence: boot === '' ? undefined : mark(`${boot}:${sequence}`),
    },
    related: [number, ...(partition === '' ? [] : [await text('..', 'dev')]), ...(await partitions(folder))],
    holders: folder === undefined ? [] : await readdir(join(folder, 'holders')).catch(() => []),
  };
}

async function partitions(folder: string | undefined): Promise<string[]> {
  if (folder === undefined) return [];
  const numbers: string[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(basename(folder))) continue;
    numbers.push((await readFile(join(folder, name, 'dev'), 'utf8').catch(() => '')).trim());
  }
  return numbers.filter((number) => number !== '');
}

/** Who uses a device. */
export interface Use {
  /** "/dev/sdb1": the device itself or the one of its partitions that is used. */
  readonly device: string;
  /** "mounted at /mnt", "used as swap", "used by dm-0". */
  readonly how: string;
  /** What ends the use: "unmount it". */
  readonly remedy: string;
}

/** The first use of a device, or of a part of it, that the system tells of. */
export async function findUse(path: string, facts: BlockFacts): Promise<Use | undefined> {
  for (const mount of await mounts()) {
    // Some file systems (btrfs) have numbers of their own there, and only name the device.
    const same = mount.source.startsWith('/') && (await realpath(mount.source).catch(() => '')) === path;
    if (!same && !facts.related.includes(mount.number)) continue;
    const device = mount.number === facts.number || same ? path : await deviceName(mount.number);
    return { device, how: `mounted at ${mount.at}`, remedy: 'unmount it' };
  }
  for (const line of (await readFile('/proc/swaps', 'utf8').catch(() => '')).split('\n').slice(1)) {
    const name = unescaped(line.split(/\s/)[0] ?? '');
    if (name !== '' && (await realpath(name).catch(() => '')) === path) {
      return { device: path, how: 'used as swap', remedy: 'run swapoff on it' };
    }
  }
  const holder = facts.holders[0];
  if (holder !== undefined) return { device: path, how: `used by /dev/${holder}`, remedy: 'stop that one first' };
  return undefined;
}

async function deviceName(number: string): Promise<string> {
  const folder = await realpath(`/sys/dev/block/${number}`).catch(() => undefined);
  return folder === undefined ? `device ${number}` : `/dev/${basename(folder)}`;
}

interface Mount {
  readonly id: string;
  readonly number: string;
  readonly at: string;
  readonly source: string;
}

/** proc(5), mountinfo: "36 35 98:0 /root /mount options optional… - type source options". */
async function mounts(): Promise<Mount[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const fields = before.split(' ');
    if (fields.length < 5) return [];
    return [
      { id: fields[0]!, number: fields[2]!, at: unescaped(fields[4]!), source: unescaped(after.split(' ')[1] ?? '') },
    ];
  });
}

/** Spaces and the like are octal in these files: "\040". */
function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
