/**
 * Physical removable drives: the logic on a simulated drive, the ioctls on simulated calls, and
 * tests with loop devices.
 */
import { writeFileSync } from 'node:fs';
import { openSync, closeSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';
import { PolledDrive, type DrivePort } from '../../src/block/polled-drive.js';
import { openBlockDevice } from '../../src/storage/block-device.node.js';
import { fileCalls } from '../../src/linux/files.node.js';
import {
  CDROM_DRIVE_STATUS,
  CDROM_LOCKDOOR,
  CDROM_MEDIA_CHANGED,
  CDROMEJECT,
  CDS_DISC_OK,
  CDS_NO_INFO,
  driveCalls,
  LinuxDrive,
  SCSI_IOCTL_DOORLOCK,
  SCSI_IOCTL_DOORUNLOCK,
  type DriveCalls,
} from '../../src/storage/linux-drive.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { FailingDisk, GatedDisk } from '../support/gated-disk.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { tempPath } from '../support/temp.js';

const facts = { identity: 'drive', readOnly: false, rotational: false, blockSize: 512 };
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** A drive into which the test puts media. */
class SimulatedDrive implements DrivePort {
  medium: { name: string; device: BlockDevice } | undefined;
  /** True if the system has noticed the drive's current medium. */
  noticed = true;
  readonly told: string[] = [];
  failure: BlockError | undefined;

  look() {
    this.noticed = true;
    return Promise.resolve(this.medium?.name);
  }
  open() {
    return this.failure ? Promise.reject(this.failure) : Promise.resolve(this.medium!.device);
  }
  verify(name: string) {
    return !this.noticed || this.medium?.name === name;
  }
  eject() {
    this.told.push('eject');
    if (this.failure) return Promise.reject(this.failure);
    this.medium = undefined;
    return Promise.resolve();
  }
  lock(locked: boolean) {
    this.told.push(locked ? 'lock' : 'unlock');
    return Promise.resolve();
  }
  close() {
    this.told.push('close');
    return Promise.resolve();
  }
}

async function polled(port: SimulatedDrive) {
  const unusable: string[] = [];
  const drive = await PolledDrive.open(facts, port, (why) => unusable.push(why));
  open.push(() => drive.close());
  return { drive, unusable };
}

function next(device: BlockDevice): Promise<string> {
  return new Promise((resolve) => {
    const end = device.media!.watch(() => {
      end();
      resolve(device.media!.medium);
    });
  });
}

async function readOf(device: BlockDevice, medium: string): Promise<number> {
  const bytes = new Uint8Array(512).fill(0xc3);
  await device.read(0, buffersOf(bytes), { medium });
  return bytes[0]!;
}

const disc = (value: number, size = 64 << 10) => new MemoryDevice(new Uint8Array(size).fill(value));

describe('a physical drive', () => {
  test('that is empty can be opened, and notices media that come and go', async () => {
    const port = new SimulatedDrive();
    const { drive } = await polled(port);
    expect(drive.info).toMatchObject({ size: 0, removable: true, identity: 'drive' });
    await expectKind('no-medium', readBytes(drive, 0, 512));
    const comes = next(drive);
    port.medium = { name: 'a', device: disc(1) };
    const one = await comes;
    expect(await readOf(drive, one)).toBe(1);
    expect(drive.info.size).toBe(64 << 10);
    const goes = next(drive);
    port.medium = undefined;
    expect(await goes).toBe('');
    await expectKind('no-medium', readOf(drive, one));
    const again = next(drive);
    // A medium that is inserted again with the same name counts as a new one.
    port.medium = { name: 'a', device: disc(2) };
    expect(await again).not.toBe(one);
    await drive.close();
    expect(port.told).toEqual(['close']);
  });

  test('never writes data for an earlier medium, even before it has noticed the exchange', async () => {
    const port = new SimulatedDrive();
    port.medium = { name: 'a', device: disc(1) };
    const { drive } = await polled(port);
    const fresh = disc(2);
    port.medium = { name: 'b', device: fresh };
    await expectKind('no-medium', writeBytes(drive, 0, new Uint8Array(512).fill(7)));
    expect((await readBytes(fresh, 0, 512))[0]).toBe(2);
  });

  test('whose medium fails is checked at once', async () => {
    const port = new SimulatedDrive();
    const failing = new FailingDisk(64 << 10, 'io');
    port.medium = { name: 'a', device: failing };
    const { drive } = await polled(port);
    await expectKind('io', readBytes(drive, 0, 512));
    port.noticed = false;
    port.medium = undefined;
    await expectKind('no-medium', readBytes(drive, 0, 512));
    expect(drive.media.medium).toBe('');
  });

  test('ejects when its medium is unused, and otherwise says why not', async () => {
    const port = new SimulatedDrive();
    const gated = new GatedDisk(64 << 10);
    port.medium = { name: 'a', device: gated };
    const { drive } = await polled(port);
    const reading = expectKind('no-medium', readBytes(drive, 0, 512));
    await drive.media.lock(true);
    await drive.media.eject();
    await reading;
    expect(gated.aborted).toBe(1);
    expect(port.told).toEqual(['lock', 'eject']);
    expect(drive.media.medium).toBe('');
    await expectKind('no-medium', drive.media.eject());

    port.medium = { name: 'b', device: disc(1) };
    const came = next(drive);
    await came;
    port.failure = new BlockError('read-only', 'in use');
    await expectKind('read-only', drive.media.eject({ medium: drive.media.medium }));
  });

  test('reports once a medium that it cannot open', async () => {
    const port = new SimulatedDrive();
    port.failure = new BlockError('io', 'mounted at /mnt');
    port.medium = { name: 'a', device: disc(1) };
    const { drive, unusable } = await polled(port);
    expect(drive.media.medium).toBe('');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(unusable).toEqual(['mounted at /mnt']);
  });
});

/** The kernel's side of a drive: the results of the calls, and a record of them. */
class SimulatedKernel implements DriveCalls {
  status = CDS_DISC_OK;
  bytes = 1 << 20;
  count: number | undefined = 7;
  changed = 0;
  openError: string | undefined;
  controlError: string | undefined;
  readonly asked: [request: number, value: number][] = [];
  readonly flags: number[] = [];
  readonly fds = new Set<number>();
  #last = 2;

  open(_path: string, flags: number) {
    this.flags.push(flags);
    if (this.openError !== undefined) return Promise.reject(errno(this.openError));
    this.fds.add(++this.#last);
    return Promise.resolve(this.#last);
  }
  close(fd: number) {
    expect(this.fds.delete(fd)).toBe(true);
    return Promise.resolve();
  }
  control(fd: number, request: number, value: number) {
    expect(this.fds.has(fd)).toBe(true);
    this.asked.push([request, value]);
    if (request === CDROM_DRIVE_STATUS) return Promise.resolve(this.status);
    if (request === CDROM_MEDIA_CHANGED) return Promise.resolve(this.changed);
    if (this.controlError !== undefined) return Promise.reject(errno(this.controlError));
    // The kernel does not eject a medium that another process has open.
    if (request === CDROMEJECT && this.fds.size > 1) return Promise.reject(errno('EBUSY'));
    return Promise.resolve(0);
  }
  sequence(fd: number) {
    expect(this.fds.has(fd)).toBe(true);
    return this.count;
  }
  size() {
    return Promise.resolve(this.bytes);
  }
}

function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}

function linux(optical: boolean) {
  const calls = new SimulatedKernel();
  const openMedium = () => Promise.resolve<BlockDevice>(disc(1));
  return { calls, drive: new LinuxDrive({ path: '/dev/x', calls, optical, boot: 'boot', openMedium }) };
}

describe('Linux’s calls', () => {
  test('a disc is told from an empty, an open and a busy drive, without closing the tray', async () => {
    const { calls, drive } = linux(true);
    expect(await drive.look()).toBe('boot.7');
    for (const status of [1, 2, 3]) {
      calls.status = status;
      expect(await drive.look()).toBeUndefined();
    }
    expect(calls.flags.every((flags) => (flags & 0o4000) !== 0)).toBe(true);
    calls.status = CDS_NO_INFO;
    expect(await drive.look()).toBe('boot.7');
    calls.bytes = 0;
    expect(await drive.look()).toBeUndefined();
    await drive.close();
    expect(calls.fds.size).toBe(0);
  });

  test('a disk without a medium, or that was unplugged, cannot be opened', async () => {
    const { calls, drive } = linux(false);
    expect(await drive.look()).toBe('boot.7');
    expect(drive.verify('boot.7')).toBe(true);
    calls.count = 8;
    expect(drive.verify('boot.7')).toBe(false);
    for (const code of ['ENOMEDIUM', 'ENXIO', 'ENOENT', 'ENODEV']) {
      calls.openError = code;
      expect(await drive.look()).toBeUndefined();
      expect(drive.verify('boot.7')).toBe(false);
    }
    expect(calls.fds.size).toBe(0);
  });

  test('without disk sequence numbers the kernel is asked for media changes', async () => {
    const { calls, drive } = linux(true);
    calls.count = undefined;
    const before = await drive.look();
    expect(await drive.look()).toBe(before);
    calls.changed = 1;
    expect(await drive.look()).not.toBe(before);
    await drive.close();
  });

  test('eject and lock, of either kind; refusals of the drive are reported', async () => {
    for (const optical of [true, false]) {
      const { calls, drive } = linux(optical);
      await drive.look();
      calls.asked.length = 0;
      await drive.lock(true);
      await drive.eject();
      const unlock = optical ? [CDROM_LOCKDOOR, 0] : [SCSI_IOCTL_DOORUNLOCK, 0];
      expect(calls.asked).toEqual([optical ? [CDROM_LOCKDOOR, 1] : [SCSI_IOCTL_DOORLOCK, 0], unlock, [CDROMEJECT, 0]]);
      for (const [code, kind] of [
        ['EBUSY', 'read-only'],
        ['ENOSYS', 'unsupported'],
        ['ENOTTY', 'unsupported'],
        ['EIO', 'io'],
      ] as const) {
        calls.controlError = code;
        await expectKind(kind, drive.eject());
      }
      expect(calls.fds.size).toBe(0);
    }
  });
});

const missing = cannotLoop() ?? (fileCalls() ? undefined : 'koffi is not installed');
if (missing !== undefined) console.error(`SKIPPED: media of loop devices: ${missing}`);
describe.skipIf(missing !== undefined)(`a loop device as a drive${missing ? ` (${missing})` : ''}`, () => {
  test('whose medium is exchanged by the kernel: new identity, new content, and no write for the old medium', async () => {
    const image = (value: number) => {
      const path = tempPath('medium.img');
      writeFileSync(path, new Uint8Array(1 << 20).fill(value));
      return path;
    };
    const path = attachLoop(image(1), '--read-only');
    const calls = driveCalls(fileCalls()!);
    const port = new LinuxDrive({
      path,
      calls,
      optical: false,
      boot: 'boot',
      openMedium: () => openBlockDevice(path, { readOnly: true }),
    });
    const drive = await PolledDrive.open({ ...facts, readOnly: true }, port);
    open.push(() => drive.close());
    const one = drive.media.medium;
    expect(await readOf(drive, one)).toBe(1);
    const came = next(drive);
    // linux/loop.h: LOOP_CHANGE_FD, which counts as a change of the medium.
    const [loop, other] = [openSync(path, 'r'), openSync(image(2), 'r')];
    await calls.control(loop, 0x4c06, other);
    await expectKind('no-medium', readOf(drive, one));
    closeSync(loop);
    closeSync(other);
    while (drive.media.medium === '' || drive.media.medium === one) await came.then(() => next(drive));
    expect(await readOf(drive, drive.media.medium)).toBe(2);
  });
});
