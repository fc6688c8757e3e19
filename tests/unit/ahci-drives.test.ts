import { describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive, openSource } from '../../src/app/sources.js';
import { AhciDrives } from '../../src/computer/ahci-drives.js';
import { identifyPlans, planDrive } from '../../src/computer/drives.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { TestMemory } from '../support/guest-memory.js';

const log = { log: () => undefined };

describe('the text of a drive', () => {
  it('options at its end are recognised in any order', () => {
    expect(parseSource('a,b.img,bus=ahci')).toMatchObject({
      location: 'a,b.img',
      bus: 'ahci',
      kind: 'disk',
      filters: {},
    });
    expect(parseSource('x,removable,overlay=f,bus=ahci')).toMatchObject({
      location: 'x',
      kind: 'removable',
      filters: { overlay: 'f' },
    });
    expect(parseSource('x.iso,cdrom')).toMatchObject({
      location: 'x.iso',
      kind: 'cdrom',
      filters: { 'read-only': true },
    });
    expect(parseSource(',cdrom')).toMatchObject({ location: '', kind: 'cdrom' });
    for (const wrong of ['', ',bus=ahci', 'x,bus=scsi', 'x,cdrom,bus=nvme', 'x,bus=']) {
      expect(() => parseSource(wrong), wrong).toThrow(FarbusError);
    }
  });

  it('an export has no options of a drive', async () => {
    await expect(openSource(parseSource('memory:1M,cdrom'), { log })).rejects.toThrow(/farbus run/);
    await expect(openSource(parseSource('memory:1M,bus=ahci'), { log })).rejects.toThrow(/farbus run/);
    expect(await openClientDrive(parseSource(',removable'), { log })).toEqual({ device: undefined, kind: 'removable' });
    expect((await openClientDrive(parseSource('memory:1M,bus=ahci'), { log })).device?.info.size).toBe(1 << 20);
  });

  it('is planned, or refused in a line', () => {
    const device = new MemoryDevice(1 << 20);
    expect(planDrive(device, 0)).toMatchObject({ bus: 'nvme', kind: 'disk' });
    expect(planDrive({ device, kind: 'cdrom' }, 1)).toMatchObject({ bus: 'ahci' });
    expect(() => planDrive({ device, kind: 'cdrom', bus: 'nvme' }, 0)).toThrow(/removable/);
    expect(() => planDrive({ device: undefined }, 0)).toThrow(/needs a device/);
    expect(() => planDrive(new MemoryDevice(1 << 20, { blockSize: 8192 }), 0)).toThrow(/8192/);
    expect(() => planDrive(new MemoryDevice(0), 0)).toThrow(/empty/);
  });
});

it('a disk is attached to an empty port and detached again, under its own identity', async () => {
  const drives = new AhciDrives({
    base: 0xfe000000,
    memory: new TestMemory(1 << 20),
    plans: await identifyPlans(
      [planDrive({ device: undefined, bus: 'ahci' }, 0), planDrive({ device: undefined, kind: 'cdrom' }, 1)],
      log,
    ),
    reach: (far) => far,
    onEject: () => undefined,
    log,
  });
  const status = (): number => drives.controller.read(0x128, 4);
  const disk = new MemoryDevice(1 << 20);
  expect([drives.mediumOf(0), status()]).toEqual([undefined, 0]);
  await drives.attach(0, disk);
  expect([drives.mediumOf(0), status()]).toEqual([disk, 0x133]);
  await expect(drives.attach(0, new MemoryDevice(1 << 20))).rejects.toThrow(/detach it first/);
  await expect(drives.attach(1, disk)).rejects.toThrow(/insert a medium/);
  expect(() => drives.detach(1)).toThrow(/eject its medium/);
  expect(drives.detach(0)).toBe(disk);
  expect([drives.mediumOf(0), status(), drives.detach(0)]).toEqual([undefined, 0, undefined]);
  await expect(drives.attach(0, new MemoryDevice(1 << 20, { blockSize: 8192 }))).rejects.toThrow(/8192/);
  await drives.attach(0, disk);
  expect(drives.mediumOf(0)).toBe(disk);
});

describe('drives on the adapter', async () => {
  const disc = new MemoryDevice(1 << 20);
  const drives = new AhciDrives({
    base: 0xfe000000,
    memory: new TestMemory(1 << 20),
    plans: await identifyPlans(
      [planDrive({ device: new MemoryDevice(1 << 20), bus: 'ahci' }, 3), planDrive({ device: disc, kind: 'cdrom' }, 5)],
      log,
    ),
    reach: (far) => far,
    onEject: () => undefined,
  });

  it('are found by their numbers, and a disk has nothing to eject', () => {
    expect(drives.mediumOf(5)).toBe(disc);
    expect(() => drives.mediumOf(4)).toThrow(/not on the AHCI adapter/);
    expect(() => drives.eject(3)).toThrow(/not removable/);
    expect(() => drives.insert(3, disc)).toThrow(/not removable/);
  });

  it('take one medium at a time, of blocks that fit', () => {
    expect(() => drives.insert(5, disc)).toThrow(/there is a medium/);
    expect(drives.eject(5)).toBe('ejected');
    expect(drives.mediumOf(5)).toBeUndefined();
    expect(() => drives.insert(5, new MemoryDevice(1 << 20, { blockSize: 4096 }))).toThrow(/4096/);
    drives.insert(5, disc);
    expect(drives.mediumOf(5)).toBe(disc);
  });
});
