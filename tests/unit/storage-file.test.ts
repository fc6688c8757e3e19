import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { byteAccess } from '../../src/block/filters/byte-access.js';
import { SliceFilter } from '../../src/block/filters/slice.js';
import { openFile } from '../../src/storage/file.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { Random } from '../../src/conformance/random.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { allExtents } from '../../src/conformance/zeroes.js';
import { testWithKoffi } from '../support/koffi.js';
import { cannotLoop, mount } from '../support/root.js';
import { tempFolder, tempPath, tempImage } from '../support/temp.js';

const mebibyte = 1 << 20;

async function refusal(path: string, options?: Parameters<typeof openPath>[1]): Promise<string> {
  const error = await openPath(path, options).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FarbusError);
  const { message } = error as FarbusError;
  expect(message).not.toMatch(/\n/);
  return message;
}

describe('the version of a file', () => {
  /** The version some seconds after the last change. */
  async function later(device: { contentVersion?: (() => Promise<string | undefined>) | undefined }) {
    const now = Date.now();
    const clock = vi.spyOn(Date, 'now').mockReturnValue(now + 60_000);
    const version = await device.contentVersion!();
    clock.mockRestore();
    return version;
  }

  test('changes with its content, also if the content changes to one of the same size and date', async () => {
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    const first = await later(device);
    expect(first).toMatch(/^[\w-]{32}$/);
    expect(await later(device)).toBe(first);
    const { atime, mtime } = statSync(path);
    const fd = openSync(path, 'r+');
    writeSync(fd, Uint8Array.of(7), 0, 1, 5000);
    closeSync(fd);
    utimesSync(path, atime, mtime);
    const second = await later(device);
    expect(second).not.toBe(first);
    await writeBytes(device, 0, new Uint8Array(512).fill(1));
    expect(await later(device)).not.toBe(second);
    await device.close();
  });

  test('is not told while the file could have changed twice at one time, nor during a write', async () => {
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    await writeBytes(device, 0, new Uint8Array(512).fill(1));
    expect(await device.contentVersion!()).toBeUndefined();
    const writing = device.write(0, new Uint8Array(mebibyte));
    // The write first looks at the length of the file.
    const during: (string | undefined)[] = [];
    let over = false;
    void writing.finally(() => (over = true));
    while (!over) {
      during.push(await later(device));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await writing;
    expect(await later(device)).not.toBe(undefined);
    // A version that was told before the write ended is of another content.
    expect(during).not.toContain(await later(device));
    await device.close();
  });

  test('is passed on by filters that change nothing, and names the part of the file', async () => {
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    const whole = await later(device);
    expect(await later(byteAccess(device))).toBe(whole);
    expect(await later(new SliceFilter(device, 4096, 8192))).toBe(`${whole}@4096+8192`);
    await device.close();
  });
});

describe('a file as a block device', () => {
  test('data is written to the file at its offset', async () => {
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    const bytes = new Random(1).bytes(4096 + 512);
    await writeBytes(device, 1024, bytes);
    await device.close();
    const content = readFileSync(path);
    expect(content.length).toBe(mebibyte);
    expect(content.subarray(1024, 1024 + bytes.length).equals(bytes)).toBe(true);
    expect(content.subarray(0, 1024).every((byte) => byte === 0)).toBe(true);
  });

  test('an odd length gives blocks of one byte', async () => {
    const device = await openPath(tempImage(1001));
    expect(device.info).toMatchObject({ size: 1001, blockSize: 1 });
    await device.close();
    await expect(openFile(tempImage(1001), { blockSize: 512 })).rejects.toThrow(/not whole blocks of 512/);
  });

  test('a file that became shorter gives errors, not data', async () => {
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    truncateSync(path, 10_000);
    await readBytes(device, 0, 8192);
    await expectKind('io', readBytes(device, 8192, 4096));
    await expectKind('io', readBytes(device, 512 * 1024, 512));
    // A write would extend the file again, with a gap of zeroes that was never written.
    for (const offset of [8192, 512 * 1024, mebibyte - 4096]) {
      await expectKind('io', writeBytes(device, offset, new Uint8Array(4096).fill(7)));
      await expectKind('io', device.writeZeroes(offset, 4096));
      await expectKind('io', device.trim(offset, 4096));
    }
    await expectKind('io', device.flush());
    await writeBytes(device, 0, new Uint8Array(8192).fill(7));
    expect(statSync(path).size).toBe(10_000);
    await device.close();
  });

  testWithKoffi('a file that became shorter has no hole behind its end', async () => {
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    await writeBytes(device, 64 * 1024, new Uint8Array(4096).fill(7));
    truncateSync(path, 512 * 1024 + 100);
    const extents = await device.extents(0, mebibyte);
    const last = extents.at(-1)!;
    expect(last.offset + last.length).toBe(512 * 1024 + 100);
    for (const at of [512 * 1024 + 100, mebibyte - 512]) await expectKind('io', device.extents(at, 512));
    // When the file has its full length again, the gap is a hole of the file itself.
    truncateSync(path, mebibyte);
    expect(await device.extents(512 * 1024, 512)).toEqual([
      { offset: 512 * 1024, length: 512, hole: true, zero: true },
    ]);
    await device.close();
  });

  test('a file that has grown is longer after a refresh, to its last byte', async () => {
    const path = tempPath('disk.img');
    writeFileSync(path, new Uint8Array(4096));
    const device = await openFile(path);
    truncateSync(path, 8192 + 100);
    expect(device.info.size).toBe(4096);
    await Promise.all([device.refresh(), device.refresh()]);
    expect(device.info.size).toBe(8292);
    await writeBytes(device, 7780, new Uint8Array(512).fill(3));
    expect((await readBytes(device, 7780, 512))[511]).toBe(3);
    await expectKind('range', readBytes(device, 8292, 1));
    truncateSync(path, 1024);
    await device.refresh();
    expect(device.info.size).toBe(8292);
    await expectKind('io', readBytes(device, 4096, 512));
    await device.close();
  });

  testWithKoffi('extents are the real ones', async () => {
    const device = await openPath(tempImage(4 * mebibyte));
    await writeBytes(device, mebibyte, new Uint8Array(65536).fill(1));
    const whole = await allExtents(device, 0, 4 * mebibyte);
    expect(whole.map(({ offset, length, hole, zero }) => [offset, length, hole, zero])).toEqual([
      [0, mebibyte, true, true],
      [mebibyte, 65536, false, false],
      [mebibyte + 65536, 3 * mebibyte - 65536, true, true],
    ]);
    await device.close();
  });

  testWithKoffi('very many extents are told in parts', async () => {
    const device = await openPath(tempImage(4 * mebibyte));
    for (let at = 0; at < 4 * mebibyte; at += 8192) await writeBytes(device, at, new Uint8Array(4096).fill(1));
    expect((await device.extents(0, 4 * mebibyte)).length).toBeLessThan(200);
    expect((await allExtents(device, 0, 4 * mebibyte)).length).toBeGreaterThan(500);
    await device.close();
  });

  testWithKoffi('trim and zeroes give space back; zeroes without a hole do not', async () => {
    const path = tempImage(4 * mebibyte);
    const device = await openPath(path);
    expect(device.info.can).toMatchObject({ trim: true, writeZeroes: true, extents: true });
    const used = async (): Promise<number> => {
      await device.flush();
      return statSync(path).blocks * 512;
    };
    await writeBytes(device, 0, new Random(2).bytes(4 * mebibyte));
    expect(await used()).toBeGreaterThanOrEqual(4 * mebibyte);
    await device.writeZeroes(0, mebibyte, { noHole: true });
    expect(await used()).toBeGreaterThanOrEqual(4 * mebibyte);
    await device.writeZeroes(0, mebibyte);
    expect(await used()).toBeLessThanOrEqual(3.1 * mebibyte);
    await device.trim(mebibyte, 3 * mebibyte);
    expect(await used()).toBeLessThanOrEqual(0.1 * mebibyte);
    expect(statSync(path).size).toBe(4 * mebibyte);
    await device.close();
  });

  test('without koffi nothing is offered that needs it, and zeroes are written', async () => {
    vi.stubEnv('FARBUS_NO_KOFFI', '1');
    const path = tempImage(mebibyte);
    const device = await openPath(path);
    vi.unstubAllEnvs();
    expect(device.info.can).toMatchObject({ flush: true, trim: false, writeZeroes: false, extents: false });
    await writeBytes(device, 0, new Random(3).bytes(mebibyte));
    await expectKind('unsupported', device.writeZeroes(0, mebibyte, { fastOnly: true }));
    await device.writeZeroes(0, mebibyte);
    await device.trim(0, mebibyte);
    await device.close();
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
  });

  test('after a failed flush no later one succeeds', async () => {
    const device = await openFile(tempImage(mebibyte), { native: false });
    const { fd } = device as unknown as { fd: number };
    closeSync(fd);
    await expect(device.flush()).rejects.toThrow();
    // The descriptor is free: the next file gets it, and could be flushed by mistake.
    const other = openSync(tempImage(512), 'r+');
    expect(other).toBe(fd);
    await expectKind('io', device.flush());
    await device.close();
  });

  test('a full disk is reported, and old data stays', async () => {
    const missing = cannotLoop();
    if (missing) return console.error(`SKIPPED: full disk: ${missing}`);
    const folder = tempFolder();
    const unmount = mount('-t', 'tmpfs', '-o', 'size=1m', 'none', folder);
    const path = join(folder, 'disk.img');
    writeFileSync(path, '');
    truncateSync(path, 8 * mebibyte);
    const device = await openPath(path);
    const bytes = new Random(4).bytes(256 * 1024);
    await writeBytes(device, 0, bytes);
    await expectKind('no-space', writeBytes(device, mebibyte, new Random(5).bytes(4 * mebibyte)));
    expect(Buffer.from(await readBytes(device, 0, bytes.length)).equals(bytes)).toBe(true);
    await device.close();
    unmount();
  });

  test('identity is stable for one file under any name', async () => {
    const path = tempImage(512);
    const link = tempPath('link');
    symlinkSync(path, link);
    const devices = await Promise.all([openPath(path), openPath(link), openPath(tempImage(512))]);
    const [first, second, third] = devices.map(({ info }) => info.identity);
    expect(first).toMatch(/^file:[0-9a-f]{32}$/);
    expect(second).toBe(first);
    expect(third).not.toBe(first);
    await Promise.all(devices.map((device) => device.close()));
  });
});

describe('paths that are refused', () => {
  test('missing, folders, pipes, sockets, character devices', async () => {
    const folder = tempFolder();
    expect(await refusal(join(folder, 'none'))).toMatch(/no such file/);
    expect(await refusal(folder)).toMatch(/folder/);
    expect(await refusal(join(tempImage(512), 'x'))).toMatch(/not a folder/);
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    expect(await refusal(join(folder, 'pipe'))).toMatch(/pipe/);
    expect(await refusal('/dev/null')).toMatch(/character device/);
    mkdirSync(join(folder, 'a\nb'));
    expect(await refusal(join(folder, 'a\nb'))).toMatch(/a\?b/);
  });

  test('a file without write permission is opened read-only, unless writing is required', async () => {
    if (process.getuid?.() !== 0) {
      const path = tempImage(512);
      execFileSync('chmod', ['400', path]);
      const device = await openPath(path);
      expect(device.info.readOnly).toBe(true);
      await device.close();
      expect(await refusal(path, { readOnly: false })).toMatch(/permission denied/);
      return;
    }
    const missing = cannotLoop();
    if (missing) return console.error(`SKIPPED: read-only file system: ${missing}`);
    const folder = tempFolder();
    mount('-t', 'tmpfs', '-o', 'size=1m', 'none', folder);
    writeFileSync(join(folder, 'disk.img'), Buffer.alloc(1024));
    execFileSync('mount', ['-o', 'remount,ro', folder]);
    const device = await openPath(join(folder, 'disk.img'));
    expect(device.info.readOnly).toBe(true);
    await device.close();
    expect(await refusal(join(folder, 'disk.img'), { readOnly: false })).toMatch(/read-only/);
  });

  testWithKoffi('a file that is locked by another', async () => {
    const path = tempImage(512);
    const first = await openFile(path, { exclusive: true });
    await expect(openFile(path, { exclusive: true })).rejects.toThrow(/locked/);
    await first.close();
    await (await openFile(path, { exclusive: true })).close();
  });
});
