import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findEnd } from '../../src/storage/block-device.node.js';
import { fileCalls } from '../../src/linux/files.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { deviceNumber } from '../../src/storage/sysfs.node.js';
import { readBytes, writeBytes } from '../../src/conformance/subject.js';
import { attachLoop, cannotLoop, mount } from '../support/root.js';
import { tempFolder, tempImage } from '../support/temp.js';

test('device numbers, large ones too', () => {
  expect(deviceNumber(0x801n)).toBe('8:1');
  expect(deviceNumber(0x10_0000_0703n << 8n)).toMatch(/^\d+:\d+$/);
  expect(deviceNumber((5n << 8n) | (0x12n << 20n) | 0x34n)).toBe(`5:${0x1234}`);
});

test('the end is found by reading if the system does not report it', async () => {
  for (const sectors of [0, 1, 2, 3, 7, 1000, 1024, 2049]) {
    const fd = openSync(tempImage(sectors * 512, 'loop.img'), 'r');
    expect(await findEnd(fd)).toBe(sectors * 512);
    closeSync(fd);
  }
});

const missing = cannotLoop();
if (missing !== undefined) console.error(`SKIPPED: block devices: ${missing}`);
describe.skipIf(missing !== undefined)(`block devices${missing ? ` (${missing})` : ''}`, () => {
  test('facts equal the kernel’s, with koffi and without', async () => {
    const path = attachLoop(tempImage(8 << 20, 'loop.img'), '--sector-size', '4096');
    for (const native of [true, false]) {
      const device = await openPath(path, { native });
      expect(device.info).toMatchObject({ size: 8 << 20, blockSize: 4096, readOnly: false });
      expect(device.info.can.trim).toBe(native && fileCalls() !== undefined);
      await device.close();
    }
  });

  test('a file is rotational if the disk below its file system is, also on a partition', async () => {
    const disk = tempImage(128 << 20, 'loop.img');
    execFileSync('sfdisk', ['-q', disk], { input: 'size=120M\n' });
    const path = attachLoop(disk, '--partscan');
    const name = path.slice('/dev/'.length);
    const setRotational = (value: '0' | '1'): void => writeFileSync(`/sys/block/${name}/queue/rotational`, value);
    const tell = async (...paths: string[]): Promise<void> => {
      for (const value of ['1', '0'] as const) {
        setRotational(value);
        for (const at of paths) {
          const opened = await openPath(at, { readOnly: true });
          await opened.close();
          expect(opened.info.rotational, `${at} ${value}`).toBe(value === '1');
        }
      }
    };
    const onFileSystem = async (type: string, device: string): Promise<void> => {
      execFileSync('wipefs', ['-aq', device]);
      if (spawnSync(`mkfs.${type}`, ['-q', device]).status !== 0) return console.warn(`SKIPPED: no mkfs.${type} here`);
      const at = tempFolder();
      const unmount = mount('-t', type, device, at);
      writeFileSync(join(at, 'disk.img'), new Uint8Array(4096));
      await tell(join(at, 'disk.img'), device);
      unmount();
    };
    // Create the partition's device node here if the system does not.
    const number = `/sys/class/block/${name}p1/dev`;
    if (!existsSync(number)) console.warn('SKIPPED: this kernel makes no partitions of loop devices');
    else {
      const partition = join(tempFolder(), 'partition');
      execFileSync('mknod', [partition, 'b', ...readFileSync(number, 'utf8').trim().split(':')]);
      await onFileSystem('ext4', partition);
    }
    await onFileSystem('ext4', path);
    await onFileSystem('btrfs', path);
  });

  test('a file in memory is not rotational', async () => {
    const at = tempFolder();
    const unmount = mount('-t', 'tmpfs', 'none', at);
    writeFileSync(join(at, 'disk.img'), new Uint8Array(4096));
    const device = await openPath(join(at, 'disk.img'));
    expect(device.info.rotational).toBe(false);
    await device.close();
    unmount();
  });

  test('one that has grown is longer after a refresh, with koffi and without', async () => {
    for (const native of [true, false]) {
      const file = tempImage(1 << 20, 'loop.img');
      const path = attachLoop(file);
      const device = await openPath(path, { native, readOnly: true });
      truncateSync(file, 2 << 20);
      execFileSync('losetup', ['--set-capacity', path]);
      await device.refresh!();
      expect(device.info.size).toBe(2 << 20);
      expect((await readBytes(device, (2 << 20) - 512, 512))[0]).toBe(0);
      await device.close();
    }
  });

  test('a writable device is opened by one writer only; readers may join', async () => {
    const path = attachLoop(tempImage(1 << 20, 'loop.img'));
    const first = await openPath(path);
    await expect(openPath(path)).rejects.toThrow(/in use/);
    const reader = await openPath(path, { readOnly: true });
    await writeBytes(first, 0, new Uint8Array(512).fill(9));
    expect((await readBytes(reader, 0, 512))[0]).toBe(9);
    await reader.close();
    await first.close();
    await (await openPath(path)).close();
  });

  test('a mounted device is refused with its mount point, unless it is read only', async () => {
    const path = attachLoop(tempImage(8 << 20, 'loop.img'));
    execFileSync('mkfs.ext4', ['-q', path]);
    const at = tempFolder();
    const unmount = mount(path, at);
    for (const exclusive of [true, false]) {
      await expect(openPath(path, { exclusive })).rejects.toThrow(
        `${path} is mounted at ${at}: unmount it, or add ,read-only to it`,
      );
    }
    const reader = await openPath(path, { readOnly: true });
    await readBytes(reader, 0, 4096);
    await reader.close();
    unmount();
    await (await openPath(path)).close();
  });

  test('a read-only device is read-only', async () => {
    const path = attachLoop(tempImage(1 << 20, 'loop.img'), '--read-only');
    for (const native of [true, false]) {
      const device = await openPath(path, { native });
      expect(device.info.readOnly).toBe(true);
      expect(device.info.can).toMatchObject({ trim: false, writeZeroes: false });
      await device.close();
      await expect(openPath(path, { native, readOnly: false })).rejects.toThrow(/read-only/);
    }
  });

  test('identity is stable', async () => {
    const path = attachLoop(tempImage(1 << 20, 'loop.img'));
    const identities: string[] = [];
    for (let i = 0; i < 2; i++) {
      const device = await openPath(path);
      identities.push(device.info.identity);
      await device.close();
    }
    expect(identities[0]).not.toBe('');
    expect(identities[1]).toBe(identities[0]);
  });
});
