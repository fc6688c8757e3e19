/**
 * The identities that drives report: derived from their content, name or place, different from each
 * other, and kept by a snapshot.
 */
import { describe, expect, it } from 'vitest';
import type { BlockDevice, BlockInfo } from '../../src/block/device.js';
import { identifyPlans, planDrive, type ClientDrive } from '../../src/computer/drives.js';
import { RecentWrites } from '../../src/computer/recent-writes.js';
import { checkSame, driveFacts, goOnAs } from '../../src/computer/same-drive.js';
import type { DiskMarks } from '../../src/block/identity.js';
import { SnapshotError, type SnapshotDrive } from '../../src/machine/snapshot.js';
import { contentIdentity } from '../../src/probe/identity.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { FailingDisk } from '../support/gated-disk.js';
import { gptDisk, putMbr } from './probe-disks.js';

const silent = { log: () => undefined };
const size = 1 << 20;

/** A device with a name, like a far one. */
function named(identity: string, bytes = new Uint8Array(size), more: Partial<BlockInfo> = {}): BlockDevice {
  const device = new MemoryDevice(bytes);
  return Object.defineProperty(device, 'info', { value: { ...device.info, identity, ...more } });
}

async function identities(...drives: (BlockDevice | ClientDrive)[]) {
  return (await identifyPlans(drives.map(planDrive), silent)).map(({ identity }) => identity);
}

function mbrDisk(id: number): Uint8Array<ArrayBuffer> {
  const disk = new Uint8Array(size);
  putMbr(disk, 0, [{ type: 0x83, start: 64, count: 128 }]);
  new DataView(disk.buffer).setUint32(440, id, true);
  return disk;
}

/** Only the superblock, as far as the probe reads it. */
function extDisk(uuidStart: number): Uint8Array<ArrayBuffer> {
  const disk = new Uint8Array(size);
  const view = new DataView(disk.buffer, 1024);
  view.setUint16(56, 0xef53, true);
  for (let i = 0; i < 16; i++) view.setUint8(104 + i, uuidStart + i);
  return disk;
}

describe('the identifier of the bytes', () => {
  it('is the partition table, or the file system of the whole disk', async () => {
    const gpt = gptDisk(2048);
    expect(await contentIdentity(new MemoryDevice(gpt))).toMatch(/^gpt:[0-9a-f-]{36}$/);
    expect(await contentIdentity(new MemoryDevice(mbrDisk(0xfeed1234)))).toBe('mbr:feed1234');
    const ext = 'ext2:10111213-1415-1617-1819-1a1b1c1d1e1f';
    expect(await contentIdentity(new MemoryDevice(extDisk(0x10)))).toBe(ext);
    // If the partition table has no identifier, the partitions are not searched for one.
    expect(await contentIdentity(new MemoryDevice(mbrDisk(0)))).toBeUndefined();
    expect(await contentIdentity(new MemoryDevice(size))).toBeUndefined();
  });

  it('does not depend on the blocks in which a protocol carries them', async () => {
    const gpt = Uint8Array.from(gptDisk(2048));
    const wanted = await contentIdentity(new MemoryDevice(gpt));
    for (const blockSize of [1, 512, 4096]) {
      expect(await contentIdentity(named('', gpt, { blockSize })), `${blockSize}`).toBe(wanted);
    }
  });

  it('is not the identifier that several devices of one file system share', async () => {
    const btrfs = (device: number): Uint8Array<ArrayBuffer> => {
      const disk = new Uint8Array(size);
      disk.set(new TextEncoder().encode('_BHRfS_M'), 65536 + 64);
      disk.fill(0xaa, 65536 + 32, 65536 + 48);
      disk.fill(device, 65536 + 267, 65536 + 283);
      return disk;
    };
    const [one, two] = await Promise.all([1, 2].map((id) => contentIdentity(new MemoryDevice(btrfs(id)))));
    expect(one).toBe('btrfs:01010101-0101-0101-0101-010101010101');
    expect(two).not.toBe(one);
  });
});

describe("a drive's identity", () => {
  it("follows from the content, not from the device's name or size", async () => {
    const [one] = await identities(named('nbd:disk', mbrDisk(1)));
    const larger = new Uint8Array(2 * size);
    larger.set(mbrDisk(1));
    const [two] = await identities(named('ssh://server/disk', larger));
    const [other] = await identities(named('nbd:disk', mbrDisk(2)));
    expect(two).toEqual(one);
    expect(other!.serial).not.toBe(one!.serial);
    expect(one!.serial).toMatch(/^[0-9a-f]{20}$/);
    expect(one!.worldWideName[0]! >> 4).toBe(3);
  });

  it('is the same on every bus except for the model', async () => {
    const drives = await Promise.all(
      (['nvme', 'ahci', 'ide'] as const).map((bus) => identities({ device: named('x', mbrDisk(1)), bus })),
    );
    for (const [drive] of drives) expect({ ...drive!, model: '' }).toEqual({ ...drives[0]![0]!, model: '' });
    expect(drives.map(([drive]) => drive!.model)).toEqual(['Farbus NVMe Disk', 'Farbus ATA Disk', 'Farbus IDE Disk']);
  });

  it('follows from the name if there is no content, and from the place if there is no name', async () => {
    const serials = async (...names: string[]) =>
      (await identities(...names.map((name) => named(name)))).map(({ serial }) => serial);
    const [a, b] = await serials('one', 'two');
    expect(await serials('two', 'one')).toEqual([b, a]);
    expect(new Set(await serials('', '')).size).toBe(2);
    expect(await serials('', '')).toEqual(await serials('', ''));
  });

  it('of clones, and of one disk over two protocols, differs by their order', async () => {
    const drives = () => [named('a', mbrDisk(1)), named('b', mbrDisk(1)), named('c', mbrDisk(1))];
    const found = await identities(...drives());
    expect(new Set(found.map(({ serial }) => serial)).size).toBe(3);
    expect(new Set(found.map(({ uuid }) => uuid.join())).size).toBe(3);
    expect(await identities(...drives())).toEqual(found);
    const [alone] = await identities(named('b', mbrDisk(1)));
    expect(alone).toEqual(found[0]);
  });

  it('is the one that the user gives; two equal ones are an error', async () => {
    const said = { serial: 'DESK-1', model: 'Desk disk' };
    const [one] = await identities({ device: named('one'), ...said });
    const [two] = await identities({ device: named('two', mbrDisk(3)), bus: 'ahci', ...said });
    expect({ ...two!, content: '' }).toEqual(one);
    expect(one).toMatchObject(said);
    const twice = identities({ device: named('one'), serial: 'S' }, { device: named('two'), serial: 'S' });
    await expect(twice).rejects.toThrow('drives 0 and 1 have the same serial number');
  });

  it('of a CD drive does not follow from its disc', async () => {
    const drive = (device: BlockDevice | undefined): ClientDrive => ({ device, kind: 'cdrom' });
    const [empty] = await identities(drive(undefined));
    const [full] = await identities(drive(named('nbd:disc.iso', mbrDisk(1))));
    expect(full).toEqual(empty);
  });

  it('follows from the name, with a warning, if the device cannot be read', async () => {
    const warnings: string[] = [];
    const log = { log: (_: string, text: string) => void warnings.push(text) };
    const failing = new FailingDisk(size, 'unreachable');
    const [plan] = await identifyPlans([planDrive(failing, 0)], log);
    expect(plan!.identity.serial).toMatch(/^[0-9a-f]{20}$/);
    expect(warnings).toEqual([expect.stringContaining('drive 0 cannot be read')]);
  });
});

describe('a snapshot', () => {
  const drive = (medium: BlockDevice | undefined, assumeSame = false) => {
    return { index: 0, medium, assumeSame, recent: new RecentWrites() };
  };
  /** Its guest has not used the drive yet. */
  const facts = async (device: BlockDevice) => driveFacts(drive(device), (await identities(device))[0]!, true);
  const marked = (marks: DiskMarks, bytes?: Uint8Array<ArrayBuffer>) => named('nbd:disk', bytes, { marks });
  const refusal = async (then: SnapshotDrive, device: BlockDevice) => {
    const error = await checkSame(then, drive(device)).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(SnapshotError);
    return (error as Error).message;
  };

  it("continues with its disk, recognised by marks or content, whatever the disk's name", async () => {
    const hardware = { hardware: 'wwn:1' };
    // First: the guest has written since. Then: the same disk over another protocol, which reports
    // no marks.
    await checkSame(await facts(marked(hardware, mbrDisk(1))), drive(marked(hardware, extDisk(1))));
    await checkSame(await facts(marked(hardware, mbrDisk(1))), drive(named('aoe:1.0', mbrDisk(1))));
    // The only evidence is that the content is unchanged.
    await checkSame(await facts(named('one')), drive(named('two')));
    await checkSame(await facts(named('')), drive(new MemoryDevice(size)));
  });

  it('refuses another disk of the same name and size in one line that says what to do', async () => {
    const then = await facts(marked({ file: '1:1' }, mbrDisk(1)));
    const message = await refusal(then, marked({ file: '2:2' }, mbrDisk(1)));
    expect(message).toMatch(/^drive 0 is another disk: its file was replaced: give that disk, or ,assume-same [^\n]+$/);
    await checkSame(then, drive(marked({ file: '2:2' }), true));
    const table = await facts(named('nbd:disk', mbrDisk(1)));
    expect(await refusal(table, named('nbd:disk', mbrDisk(2)))).toContain("partition table's identifier differs");
    const blank = await facts(named('nbd:disk'));
    expect(await refusal(blank, named('nbd:disk', mbrDisk(2)))).toContain('not known to be the same disk');
    const larger = named('nbd:disk', new Uint8Array(2 * size));
    await expect(checkSame(blank, { ...drive(larger, true), index: 3 })).rejects.toThrow(
      'drive 3 is not the same as before',
    );
    await expect(checkSame(blank, drive(undefined, true))).rejects.toThrow('drive 0 is not the same as before');
    await expect(facts(new FailingDisk(size, 'unreachable'))).rejects.toThrow(SnapshotError);
  });

  it("keeps a drive's identity, even if it has been partitioned since", async () => {
    const then = (await identities(named('nbd:disk')))[0]!;
    const now = (await identities(named('nbd:disk', mbrDisk(2))))[0]!;
    expect(now.serial).not.toBe(then.serial);
    const { shown } = await driveFacts(drive(undefined), then, true);
    goOnAs(now, JSON.parse(JSON.stringify(shown)) as typeof shown, { index: 0 });
    expect({ ...now, content: '' }).toEqual(then);
    expect(() => goOnAs(now, shown, { index: 1, serial: 'OTHER' })).toThrow(/drive 1 was started as Farbus NVMe Disk/);
    expect(() => goOnAs(now, { ...shown, uuid: 'nonsense' }, { index: 0 })).toThrow(SnapshotError);
  });
});
