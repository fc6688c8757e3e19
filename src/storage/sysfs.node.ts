/**
 * Facts about block devices from /sys/dev/block (sysfs), /proc/self/mountinfo (proc(5)) and
 * /proc/swaps. Every file is optional: a fact whose file cannot be read is unknown.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { markOf, type DiskMarks } from '../block/identity.js';
import { bootId } from '../base/boot-id.node.js';

/** The facts of sysfs about one block device. */
export interface BlockFacts {
  /** Device number as in the system's files: "8:1". */
  readonly number: string;
  /** Length in bytes; undefined if unknown. */
  readonly size: number | undefined;
  /** Smallest addressable unit in bytes; undefined if unknown. */
  readonly blockSize: number | undefined;
  readonly removable: boolean;
  /** True for a partition of a disk. */
  readonly partition: boolean;
  readonly rotational: boolean;
  readonly readOnly: boolean;
  /** True if the device supports discard (trim). */
  readonly discard: boolean;
  /** True if the device can zero blocks by itself. */
  readonly zeroes: boolean;
  /** World-wide name of the disk, with the number of the partition if it is one; '' if unknown. */
  readonly wwid: string;
  /**
   * The marks of the disk's identity (block/identity.ts), with the number of the partition if it is
   * one.
   */
  readonly marks: DiskMarks;
  /**
   * Numbers of the device, of its disk, and of its partitions: a use of any of them is a use of the
   * device.
   */
  readonly related: readonly string[];
  /** Names of the devices built on it (device mapper, RAID). */
  readonly holders: readonly string[];
}

/** A device number of stat(2) as text "MAJOR:MINOR" (makedev(3)). */
export function deviceNumber(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/**
 * True if an open file is on a rotating disk: the value of queue/rotational of the block device of
 * its file system. A partition has the queue of its disk; device mapper, RAID and loop devices
 * report the value of the disks below them. False if no block device is known: memory, overlays,
 * network file systems.
 * @param device the file's `st_dev` of stat(2)
 */
export async function rotates(fd: number, device: bigint): Promise<boolean> {
  let folder = await realpath(`/sys/dev/block/${deviceNumber(device)}`).catch(() => undefined);
  if (folder === undefined) {
    // Some file systems (btrfs) have device numbers of their own. Only the mount names the device
    // (proc(5), fdinfo).
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

/** Reads the facts about the device with this number from sysfs. */
export async function blockFacts(number: string): Promise<BlockFacts> {
  const folder = await realpath(`/sys/dev/block/${number}`).catch(() => undefined);
  const text = async (...names: string[]): Promise<string> =>
    folder === undefined ? '' : (await readFile(join(folder, ...names), 'utf8').catch(() => '')).trim();
  const partition = await text('partition');
  // A partition's queue, name and medium are those of its disk.
  const disk = partition === '' ? '.' : '..';
  const sectors = await text('size');
  const wwid = (await text(disk, 'wwid')) || (await text(disk, 'device', 'wwid'));
  const serial = wwid || (await text(disk, 'serial')) || (await text(disk, 'device', 'serial'));
  const sequence = await text(disk, 'diskseq');
  const boot = sequence === '' ? '' : bootId();
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

/** A use of a device. */
export interface Use {
  /** "/dev/sdb1": the device itself, or its partition that is in use. */
  readonly device: string;
  /** "mounted at /mnt", "used as swap", "used by dm-0". */
  readonly how: string;
  /** How to end the use: "unmount it". */
  readonly remedy: string;
}

/**
 * The first use of a device, or of a part of it, that the system reports; undefined if there is
 * none.
 */
export async function findUse(path: string, facts: BlockFacts): Promise<Use | undefined> {
  for (const mount of await mounts()) {
    // Some file systems (btrfs) have device numbers of their own: compare the device's path too.
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

/** Decodes a field: these files write spaces and some other characters in octal ("\040"). */
function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
