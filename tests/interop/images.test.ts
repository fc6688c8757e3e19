/**
 * Disk images of other formats through qemu-nbd: recognised by their names, read and written; and
 * the death of qemu-nbd.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { detectFormat } from '../../src/protocol/qemu/detect.node.js';
import { openImage } from '../../src/protocol/qemu/open.node.js';
import { imageFormats } from '../../src/protocol/qemu/formats.js';
import { parseSource } from '../../src/app/source-text.js';
import { openSource } from '../../src/app/sources.js';
import { conformance } from '../conformance/suite.js';
import { expectKind, readBytes } from '../../src/conformance/subject.js';
import { missing } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { execute, farbus, farbusFile, startFarbus } from './farbus.js';

const none = missing('qemu-nbd') || missing('qemu-img') || missing('qemu-io');

async function image(format: string, ...options: string[]): Promise<string> {
  const path = join(tempFolder(), `disk, one.${format}`);
  const { code, stderr } = await execute('qemu-img', ['create', '-q', '-f', format, ...options, path, '4M']);
  expect(code, stderr).toBe(0);
  return path;
}

/** Processes that serve the image at `path`. */
function servers(path: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path);
      } catch {
        return false;
      }
    })
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

describe.skipIf(none)('a disk image', () => {
  it.each(imageFormats.filter((format) => format !== 'qcow'))(
    '%s is known by its name and content, read and written',
    async (format) => {
      const path = await image(format);
      expect(await detectFormat(path)).toBe(format);
      const disk = await openSource(parseSource(path), { log: { log: () => undefined } });
      const bytes = new Uint8Array(4096).fill(0x61);
      await disk.write(8192, buffersOf(bytes), { fua: true });
      await disk.close();
      expect(servers(path)).toEqual([]);
      const checked = await execute('qemu-io', ['-r', '-f', format, '-c', 'read -P 0x61 8k 4k', path]);
      expect(checked.stdout + checked.stderr).not.toMatch(/fail|error/i);
      const again = await openSource(parseSource(path), { readOnly: true, log: { log: () => undefined } });
      expect(again.info.readOnly).toBe(true);
      expect(await readBytes(again, 8192, 4096)).toEqual(bytes);
      await again.close();
    },
  );

  it('that names another file is not opened for its name', async () => {
    const base = await image('qcow2');
    const path = await image('qcow2', '-b', base, '-F', 'qcow2');
    const looked = await farbus('info', path);
    expect(looked.code).toBe(1);
    expect(looked.stderr).toMatch(/^farbus: [^\n]*takes content from another file[^\n]*--may-open[^\n]*\n$/);
    expect((await farbus('info', `qcow2:${path}`)).code).toBe(1);
    const allowed = await farbus('info', path, '--may-open', dirname(base));
    expect(allowed.stdout).toContain('4.0 MiB (4194304 bytes)');
    const raw = await farbus('info', '--json', `raw:${path}`);
    expect(JSON.parse(raw.stdout)).toMatchObject({ size: readFileSync(path).length });
    expect((await farbus('info', '--format', 'raw', '--json', path)).stdout).toBe(raw.stdout.replace('raw:', ''));
    // A raw copy over an image is refused too.
    const copied = await farbus('copy', base, path);
    expect(copied.code).toBe(1);
    expect((await farbus('copy', base, `qcow2:${path}`, '--may-open', dirname(base))).code).toBe(0);
  });

  it.each(imageFormats)('copy makes a new file of that name as %s', async (format) => {
    const raw = tempPath('raw.img');
    const size = 5_000_192;
    writeFileSync(raw, Buffer.concat([Buffer.alloc(1 << 20, 0x61), Buffer.alloc(size - (1 << 20))]));
    const path = join(tempFolder(), `new, one.${format}`);
    const copied = await farbus('copy', raw, path, '--verify');
    expect(copied, copied.stderr).toMatchObject({ code: 0 });
    const compared = await execute('qemu-img', ['compare', '-f', 'raw', '-F', format, raw, path]);
    expect(compared.stdout).toContain('Images are identical');
    // Zeroes take no space in it.
    expect(statSync(path).blocks * 512).toBeLessThan(size);
  });

  it('is made by copy in an empty file and at a path with a format; a failed copy leaves nothing', async () => {
    const folder = tempFolder();
    const raw = join(folder, 'raw.img');
    writeFileSync(raw, Buffer.alloc(1 << 20, 0x61));
    writeFileSync(join(folder, 'empty.qcow2'), '');
    for (const to of [join(folder, 'empty.qcow2'), `qcow2:${join(folder, 'other')}`]) {
      expect((await farbus('copy', raw, to)).code).toBe(0);
      const compare = ['compare', '-f', 'raw', '-F', 'qcow2', raw, to.replace('qcow2:', '')];
      expect((await execute('qemu-img', compare)).stdout).toContain('Images are identical');
    }
    const same = await farbus('copy', join(folder, 'empty.qcow2'), `qcow2:${join(folder, 'empty.qcow2')}`);
    expect(same.code).toBeGreaterThan(0);
    const path = join(folder, 'none.qcow2');
    const bare = await execute('env', ['PATH=/nonexistent', process.execPath, farbusFile, 'copy', raw, path]);
    expect(bare.stderr).toMatch(/^farbus: [^\n]*qemu-img is needed, which is not installed: install it[^\n]*\n$/);
    expect(existsSync(path)).toBe(false);
  });

  it('is continued by copy --resume after kill -9, and is sound', async () => {
    const raw = tempPath('raw.img');
    writeFileSync(raw, Buffer.from(Uint8Array.from({ length: 6 << 20 }, (_, index) => (index * 31) >> 11)));
    const path = tempPath('copy.img');
    const first = startFarbus('copy', `${raw},rate=1M`, `qcow2:${path}`, '--jobs', '1');
    interface Journal {
      readonly position: number;
      readonly from: { readonly changed?: number };
    }
    let journal: Journal | undefined;
    while (!journal?.position) {
      expect(first.child.exitCode, first.stderr()).toBeNull();
      await sleep(10);
      if (existsSync(`${path}.farbus-copy`)) {
        journal = JSON.parse(readFileSync(`${path}.farbus-copy`, 'utf8')) as Journal;
      }
    }
    first.child.kill('SIGKILL');
    await first.ended;
    // By this a change of the source would be noticed.
    expect(journal.from.changed).toBe(statSync(raw).mtimeMs);
    while (servers(path).length > 0) await sleep(10);
    const resumed = await farbus('copy', raw, `qcow2:${path}`, '--resume', '--verify', '--json');
    expect(resumed.code, resumed.stderr).toBe(0);
    expect((JSON.parse(resumed.stdout) as { start: number }).start).toBeGreaterThan(0);
    const check = await execute('qemu-img', ['check', '-f', 'qcow2', path]);
    expect(check.code, check.stdout).toBe(0);
    const compared = await execute('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, path]);
    expect(compared.stdout).toContain('Images are identical');
  });

  it('one that is damaged, missing or unreadable is reported in a line', async () => {
    const path = tempPath('bad.qcow2');
    writeFileSync(path, Buffer.concat([Buffer.from('QFI\xfb\0\0\0\x63', 'latin1'), Buffer.alloc(4096)]));
    const bad = await farbus('info', path);
    expect(bad).toMatchObject({ code: 1, stdout: '' });
    expect(bad.stderr).toMatch(/^farbus: qemu-nbd cannot open [^\n]+\n$/);
    expect((await farbus('info', 'qcow2:/nonexistent')).stderr).toMatch(
      /^farbus: cannot open \/nonexistent: [^\n]+\n$/,
    );
    const good = await image('qcow2');
    const bare = await execute('env', ['PATH=/nonexistent', process.execPath, farbusFile, 'info', good]);
    expect(bare.code).toBe(1);
    expect(bare.stderr).toMatch(/^farbus: [^\n]*qemu-nbd is needed, which is not installed: install it[^\n]*\n$/);
  });

  it('gives errors at once when its qemu-nbd dies, and says so', async () => {
    const path = await image('qcow2');
    const said: string[] = [];
    const disk = await openImage(path, { format: 'qcow2', log: { log: (_, message) => said.push(message) } });
    const [pid, ...more] = servers(path);
    expect(more).toEqual([]);
    process.kill(pid!, 'SIGKILL');
    await expectKind('unreachable', disk.read(0, buffersOf(new Uint8Array(512))));
    await expectKind('unreachable', disk.flush());
    for (let i = 0; said.length === 0 && i < 500; i++) await sleep(10);
    expect(said).toEqual([expect.stringMatching(/qemu-nbd has ended \(signal SIGKILL\)/)]);
    await disk.close();
  });

  it('leaves a folder behind when both are killed, which the next start removes', async () => {
    const path = await image('qcow2');
    const socket = tempPath('nbd.sock');
    const serving = startFarbus('serve', path, '--listen', `nbd+unix:///?socket=${socket}`);
    await serving.printed(/nbd\+unix/);
    const left = (): string[] =>
      readdirSync(tmpdir()).filter((name) => name.startsWith(`farbus-image-${serving.child.pid}-`));
    expect(left().length).toBe(1);
    const [pid] = servers(path);
    serving.child.kill('SIGSTOP');
    process.kill(pid!, 'SIGKILL');
    serving.child.kill('SIGKILL');
    await serving.ended;
    const [folder] = left();
    // Make it one minute old, for the next start.
    utimesSync(join(tmpdir(), folder!), 0, 0);
    expect(await farbus('info', path)).toMatchObject({ code: 0 });
    expect(left()).toEqual([]);
  });

  it('leaves no qemu-nbd behind when farbus is killed', async () => {
    const path = await image('qcow2');
    const socket = tempPath('nbd.sock');
    const serving = startFarbus('serve', path, '--listen', `nbd+unix:///?socket=${socket}`);
    await serving.printed(/nbd\+unix/);
    const [pid] = servers(path);
    expect(pid).toBeDefined();
    serving.child.kill('SIGKILL');
    await serving.ended;
    for (let i = 0; servers(path).length > 0 && i < 1000; i++) await sleep(10);
    expect(servers(path)).toEqual([]);
  });
});

if (!none) {
  let path: string | undefined;
  conformance(
    'qcow2 image',
    async () => {
      path ??= await image('qcow2');
      return { device: await openImage(path, { format: 'qcow2' }) };
    },
    {
      persistent: true,
      steps: 200,
      openReadOnly: async () => ({
        device: await openImage(await image('qcow2'), { format: 'qcow2', readOnly: true }),
      }),
    },
  );
}
