import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { sha256 } from '../../src/guest/cache.node.js';
import { bootModules, defaultCommandLine, onDemandModules, prepareDebianGuest } from '../../src/guest/debian.node.js';
import type { GuestOptions } from '../../src/guest/debian.node.js';
import type { DebianPackage, PackageLock } from '../../src/guest/lock.node.js';
import { tempFolder } from '../support/temp.js';
import { buildPackage, startListedArchive } from './guest-deb.js';
import { elfModule } from './guest-elf.js';
import { bzImage, packed, vmlinux } from './guest-kernel.js';
import { failure, startArchive } from './guest-server.js';
import type { TestArchive } from './guest-server.js';

/** A kernel package with one file in each folder that is kept, and one file elsewhere. */
function kernelPackage(): Uint8Array {
  const modules: Record<string, string[]> = {
    'block/t10-pi': ['depends=crc-t10dif'],
    'crypto/crct10dif_generic': ['alias=crct10dif', 'depends='],
    'drivers/ata/ahci': [],
    'drivers/block/loop': [],
    'drivers/cdrom/cdrom': [],
    'drivers/gpu/gpu': [],
    'drivers/net/ethernet/8390/8390': [],
    'drivers/net/net_failover': [],
    'drivers/net/virtio_net': [],
    'drivers/nvme/host/nvme': ['depends=t10-pi'],
    'drivers/scsi/sd_mod': [],
    'drivers/virtio/virtio': [],
    'fs/ext4/ext4': ['alias=fs-ext4'],
    'lib/crc-t10dif': ['depends=', 'softdep=pre: crct10dif'],
    'net/core/failover': [],
  };
  const files: Record<string, Uint8Array | string> = {
    'boot/vmlinuz-1.0-test': bzImage(packed('xz')),
    'boot/config-1.0-test': 'not needed',
    'lib/modules/1.0-test/modules.builtin': 'kernel/fs/nls/nls_base.ko\n',
  };
  for (const [path, facts] of Object.entries(modules)) {
    files[`lib/modules/1.0-test/kernel/${path}.ko`] = elfModule(facts);
  }
  return buildPackage('linux-image-1.0-test', files);
}

function unpacked(initramfs: Uint8Array): string {
  const folder = tempFolder();
  // Only root may create the device; everything else works without root.
  execFileSync('cpio', ['--quiet', '--extract', '--nonmatching', 'dev/console'], { input: initramfs, cwd: folder });
  return folder;
}

describe('prepareDebianGuest', () => {
  const debs = new Map<string, Uint8Array>();
  let lock: PackageLock;

  beforeAll(() => {
    debs.set('linux-image-686', kernelPackage());
    debs.set('busybox-static', buildPackage('busybox-static', { 'bin/busybox': 'busybox!', 'usr/share/doc/x': 'y' }));
    const packages = [...debs].map(([name, data]): DebianPackage => {
      const real = name === 'linux-image-686' ? 'linux-image-1.0-test' : name;
      const path = `pool/main/${name}.deb`;
      return { name, package: real, version: '1.0', path, size: data.length, sha256: sha256(data) };
    });
    lock = { suite: 'bookworm', architecture: 'i386', snapshot: '20240101T000000Z', packages };
  });
  afterEach(() => void vi.unstubAllEnvs());

  async function setUp(): Promise<{ archive: TestArchive; options: GuestOptions; cacheDir: string }> {
    const archive = await startArchive(
      Object.fromEntries([...debs].map(([name, data]) => [`/pool/main/${name}.deb`, data])),
    );
    const cacheDir = join(tempFolder(), 'cache');
    const modules = { modules: ['nvme'], modulesOnDemand: ['ext4'] };
    return { archive, cacheDir, options: { cacheDir, mirror: archive.url, lock, retryMs: 1, ...modules } };
  }

  test('makes kernel and initramfs from packages', async () => {
    const { options } = await setUp();
    const guest = await prepareDebianGuest(options);
    expect(guest.version).toBe('1.0-test (1.0)');
    expect(Buffer.compare(guest.kernel.vmlinux, vmlinux)).toBe(0);
    expect(Buffer.compare(guest.kernel.bzImage, bzImage(packed('xz')))).toBe(0);

    const root = unpacked(guest.initramfs);
    const read = (path: string): string => readFileSync(join(root, path), 'utf8');
    expect(readdirSync(root).sort()).toEqual(
      ['bin', 'dev', 'etc', 'init', 'lib', 'mnt', 'proc', 'root', 'run', 'sbin', 'sys', 'tmp', 'usr'].sort(),
    );
    expect(read('bin/sh')).toBe('busybox!');
    expect(statSync(join(root, 'bin/busybox')).mode & 0o777).toBe(0o755);
    expect(statSync(join(root, 'init')).mode & 0o777).toBe(0o755);
    expect(read('etc/farbus-modules')).toBe('nvme\n');
    expect(read('lib/modules/1.0-test/modules.dep').split('\n')).toEqual([
      'kernel/crypto/crct10dif_generic.ko:',
      'kernel/lib/crc-t10dif.ko: kernel/crypto/crct10dif_generic.ko',
      'kernel/block/t10-pi.ko: kernel/lib/crc-t10dif.ko kernel/crypto/crct10dif_generic.ko',
      'kernel/drivers/nvme/host/nvme.ko: kernel/block/t10-pi.ko kernel/lib/crc-t10dif.ko kernel/crypto/crct10dif_generic.ko',
      'kernel/fs/ext4/ext4.ko:',
      '',
    ]);
    expect(read('lib/modules/1.0-test/modules.alias')).toContain('alias fs-ext4 ext4\n');
    const module = readFileSync(join(root, 'lib/modules/1.0-test/kernel/fs/ext4/ext4.ko'));
    expect(Buffer.compare(module, elfModule(['alias=fs-ext4']))).toBe(0);
  });

  test('needs neither the archive nor a program the second time', async () => {
    const { archive, options } = await setUp();
    const first = await prepareDebianGuest(options);
    await archive.close();
    vi.stubEnv('PATH', '/nowhere');
    const second = await prepareDebianGuest(options);
    expect(second.id).toBe(first.id);
    expect(Buffer.compare(second.initramfs, first.initramfs)).toBe(0);
  });

  test('repairs a damaged cache without the archive', async () => {
    const { archive, options, cacheDir } = await setUp();
    const first = await prepareDebianGuest(options);
    await archive.close();
    for (const [part, file] of [
      ['kernel', 'vmlinux'],
      ['initramfs', 'initramfs'],
    ] as const) {
      const path = join(cacheDir, part, readdirSync(join(cacheDir, part))[0]!, file);
      writeFileSync(path, 'damaged');
      expect((await prepareDebianGuest(options)).id).toBe(first.id);
    }
    rmSync(join(cacheDir, 'unpacked'), { recursive: true });
    rmSync(join(cacheDir, 'initramfs'), { recursive: true });
    expect((await prepareDebianGuest(options)).id).toBe(first.id);
  });

  test('makes another guest with the same kernel from another input', async () => {
    const { archive, options, cacheDir } = await setUp();
    const ids = new Set<string>();
    const data = Buffer.from('x');
    for (const change of [
      {},
      { modules: [] },
      { modulesOnDemand: [] },
      { init: '#!/bin/sh\n' },
      { extraFiles: [{ path: 'root/x', data }] },
      { extraFiles: [{ path: 'root/x', data, mode: 0o755 }] },
      { extraFiles: [{ path: 'root/y', data }] },
    ]) {
      ids.add((await prepareDebianGuest({ ...options, ...change })).id);
    }
    expect(ids.size).toBe(7);
    expect(readdirSync(join(cacheDir, 'kernel'))).toHaveLength(1);
    expect(archive.asked).toHaveLength(2);
  });

  test('adds a caller’s files', async () => {
    const { options } = await setUp();
    const extraFiles = [{ path: 'root/deep/test.sh', data: Buffer.from('#!/bin/sh\n'), mode: 0o755 }];
    const root = unpacked((await prepareDebianGuest({ ...options, extraFiles })).initramfs);
    expect(readFileSync(join(root, 'root/deep/test.sh'), 'utf8')).toBe('#!/bin/sh\n');
  });

  test.each<[string, Partial<GuestOptions>, RegExp]>([
    ['a module that the kernel does not have', { modules: ['absent'] }, /initramfs: the kernel has no module absent$/],
    ['a module that is not kept', { modules: ['gpu'] }, /initramfs: the kernel has no module gpu$/],
    [
      'a file outside of the root',
      { extraFiles: [{ path: '../x', data: new Uint8Array(0) }] },
      /initramfs: "..\/x" cannot be a path/,
    ],
  ])('refuses %s', async (_what, change, message) => {
    const { options } = await setUp();
    expect((await failure(prepareDebianGuest({ ...options, ...change }))).message).toMatch(message);
  });

  test('needs no program of the host', async () => {
    const { options } = await setUp();
    vi.stubEnv('PATH', '/nowhere');
    expect((await prepareDebianGuest(options)).initramfs.length).toBeGreaterThan(0);
  });

  test("loads the drivers of the far disk, and sets the kernel's console", () => {
    expect(bootModules()).toContain('nvme');
    expect(bootModules().filter((name) => onDemandModules.includes(name))).toEqual([]);
    expect(defaultCommandLine).toMatch(/^console=ttyS0 quiet /);
  });
});

describe('tools', () => {
  const library = { name: 'libtool', files: { 'usr/lib/i386-linux-gnu/libtool.so.1': 'library' } };
  const tool = {
    name: 'tool',
    fields: ['Depends: libtool, adduser', 'Installed-Size: 9'],
    files: {
      'usr/sbin/tool': { program: 'tool!' },
      'usr/bin/tool-link': { link: '../sbin/tool' },
      'bin/busybox': { program: 'another' },
      'usr/share/doc/tool/copyright': 'text',
      'usr/share/man/man8/tool.8.gz': 'text',
      'usr/share/locale/de/LC_MESSAGES/tool.mo': 'text',
      'usr/share/tool/data': 'data',
      'DEBIAN/postinst': { program: '#!/bin/sh\nexit 1\n' },
    },
  };
  const large = { name: 'large', fields: ['Depends: tool, libtool', `Installed-Size: ${300 << 10}`] };
  const listed = [tool, library, large, { name: 'adduser', fields: ['Depends: perl'] }, { name: 'perl' }];
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.unstubAllEnvs();
  });

  async function setUp(): Promise<{ archive: TestArchive; options: GuestOptions }> {
    const { archive, mirror, keyring } = await startListedArchive(listed);
    const busybox = buildPackage('busybox-static', { 'bin/busybox': 'busybox!' });
    const packages = Object.entries({ 'linux-image-686': kernelPackage(), 'busybox-static': busybox }).map(
      ([name, data]): DebianPackage => {
        const path = `pool/main/${name}.deb`;
        archive.files.set(`/${path}`, data);
        return { name, package: name, version: '1.0', path, size: data.length, sha256: sha256(data) };
      },
    );
    const lock = { suite: 'bookworm', architecture: 'i386', snapshot: '20240101T000000Z', packages };
    const base = { cacheDir: join(tempFolder(), 'cache'), mirror, keyring, lock, retryMs: 1 };
    return { archive, options: { ...base, modules: ['nvme'], modulesOnDemand: [] } };
  }

  test('are in the guest with their dependencies, without documentation; the guest’s own files stay', async () => {
    const { options } = await setUp();
    const guest = await prepareDebianGuest({ ...options, tools: ['tool'] });
    const root = unpacked(guest.initramfs);
    const read = (path: string): string => readFileSync(join(root, path), 'utf8');
    expect(read('usr/bin/tool-link')).toBe('tool!');
    expect(statSync(join(root, 'usr/sbin/tool')).mode & 0o777).toBe(0o755);
    expect(read('usr/lib/i386-linux-gnu/libtool.so.1')).toBe('library');
    expect(read('bin/busybox')).toBe('busybox!');
    expect(read('usr/share/tool/data')).toBe('data');
    expect(readdirSync(join(root, 'usr/share'))).toEqual(['tool']);
    expect(readdirSync(root)).not.toContain('DEBIAN');
  });

  test('make another guest, which needs neither the archive nor a program a second time', async () => {
    const { archive, options } = await setUp();
    const plain = await prepareDebianGuest(options);
    const first = await prepareDebianGuest({ ...options, tools: ['tool', 'libtool'] });
    expect(archive.asked.filter((path) => /adduser|perl/.test(path))).toEqual([]);
    await archive.close();
    vi.stubEnv('PATH', '/nowhere');
    const second = await prepareDebianGuest({ ...options, tools: ['libtool', 'tool', 'tool'] });
    expect(second.id).toBe(first.id);
    expect(first.id).not.toBe(plain.id);
    expect((await prepareDebianGuest(options)).id).toBe(plain.id);
  });

  test('that are too large are refused by name before they are fetched', async () => {
    const { archive, options } = await setUp();
    expect((await failure(prepareDebianGuest({ ...options, tools: ['large'] }))).message).toMatch(
      /^the packages asked for come to 300 MiB with what they need, of which .* 256 MiB; the largest: large \(300 MiB\), /,
    );
    expect(archive.asked.filter((path) => /large/.test(path))).toEqual([]);
  });

  test('that do not exist are refused by their names', async () => {
    const { options } = await setUp();
    expect((await failure(prepareDebianGuest({ ...options, tools: ['tol'] }))).message).toMatch(/no package "tol"/);
  });
});

describe('the init script', () => {
  test('is one that a POSIX shell can read', () => {
    execFileSync('sh', ['-n', 'src/guest/init.sh']);
  });
});
