/**
 * A disk from which a 64-bit PC boots: GRUB in the master boot record, and one partition with
 * Debian's amd64 kernel and a busybox userland. At each boot it prints `hash SHA256` of a file and
 * `seen N`, the number of earlier boots, on the serial console, and powers off.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  openSync,
  writeSync,
} from 'node:fs';
import { closeSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchPackages } from '../../src/guest/fetch.node.js';
import type { PackageLock } from '../../src/guest/lock.node.js';
import { filesBelow, unpackPackage } from '../../src/guest/unpack.node.js';
import { tempFolder } from './temp.js';

/**
 * Debian's kernel for cloud machines. It is small and has NVMe and ext4 built in, so no initramfs
 * is needed.
 */
export const amd64Packages: PackageLock = {
  suite: 'bookworm',
  architecture: 'amd64',
  snapshot: '20261123T000000Z',
  packages: [
    {
      name: 'linux-image-cloud-amd64',
      package: 'linux-image-6.1.0-50-cloud-amd64',
      version: '6.1.176-1',
      path: 'pool/main/l/linux-signed-amd64/linux-image-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb',
      size: 26484304,
      sha256: 'efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791',
    },
    {
      name: 'busybox-static',
      package: 'busybox-static',
      version: '1:1.35.0-4+deb12u1+b1',
      path: 'pool/main/b/busybox/busybox-static_1.35.0-4+deb12u1+b1_amd64.deb',
      size: 928188,
      sha256: '3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744',
    },
  ],
};

const init = `#!/bin/sh
mount -t proc proc /proc
echo "hash $(sha256sum < /data.bin)"
mount -o remount,rw /
echo "seen $(wc -l < /seen)"
echo once more >> /seen
mount -o remount,ro /
poweroff -f
`;

const grubConfig = `linux (hd0,msdos1)/boot/vmlinuz root=/dev/nvme0n1p1 ro init=/init console=ttyS0 quiet panic=-1
boot
`;

const partitionStart = 1 << 20;
const size = 64 << 20;
const grubFolder = '/usr/lib/grub/i386-pc';

/** The path of the disk, and the hash that it prints. */
export interface BootDisk {
  readonly path: string;
  readonly hash: string;
}

/**
 * Makes the disk in a temporary folder. Downloads some 27 MB once, into the cache of guest
 * packages.
 */
export async function makeBootDisk(): Promise<BootDisk> {
  const folder = tempFolder();
  const root = join(folder, 'root');
  for (const name of ['bin', 'boot', 'dev', 'proc']) mkdirSync(join(root, name), { recursive: true });
  const [kernel, busybox] = await fetchPackages(['linux-image-cloud-amd64', 'busybox-static'], { lock: amd64Packages });
  const kernelFolder = await unpackPackage(kernel!, ['./boot/vmlinuz-*']);
  const [image] = await filesBelow(kernelFolder);
  copyFileSync(join(kernelFolder, image!), join(root, 'boot/vmlinuz'));
  copyFileSync(join(await unpackPackage(busybox!, ['./bin/busybox']), 'bin/busybox'), join(root, 'bin/busybox'));
  for (const name of ['sh', 'mount', 'sha256sum', 'wc', 'poweroff']) symlinkSync('busybox', join(root, 'bin', name));
  const data = randomBytes(3 << 20);
  writeFileSync(join(root, 'data.bin'), data);
  writeFileSync(join(root, 'seen'), '');
  writeFileSync(join(root, 'init'), init);
  chmodSync(join(root, 'init'), 0o755);

  const path = join(folder, 'disk.img');
  writeFileSync(path, '');
  truncateSync(path, size);
  run('sfdisk', ['--quiet', path], `label: dos\nstart=${partitionStart / 512},type=83,bootable\n`);
  const kib = (size - partitionStart) >> 10;
  run('mkfs.ext4', ['-q', '-F', '-E', `offset=${partitionStart}`, '-d', root, path, `${kib}k`]);
  putGrub(path, folder);
  return { path, hash: createHash('sha256').update(data).digest('hex') };
}

/**
 * Does what grub-install does: writes the boot sector's code before the partition table, and GRUB's
 * core between the boot sector and the partition.
 */
function putGrub(disk: string, folder: string): void {
  const config = join(folder, 'grub.cfg');
  const core = join(folder, 'core.img');
  writeFileSync(config, grubConfig);
  const modules = ['biosdisk', 'part_msdos', 'ext2', 'linux'];
  run('grub-mkimage', ['-O', 'i386-pc', '-o', core, '-p', '(hd0,msdos1)/boot', '-c', config, ...modules]);
  const file = openSync(disk, 'r+');
  writeSync(file, readFileSync(join(grubFolder, 'boot.img')).subarray(0, 440), 0, 440, 0);
  const bytes = readFileSync(core);
  if (bytes.length > partitionStart - 512) throw new Error('GRUB does not fit before the partition');
  writeSync(file, bytes, 0, bytes.length, 512);
  closeSync(file);
}

function run(program: string, args: readonly string[], input = ''): void {
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  execFileSync(program, args, { env, input, stdio: ['pipe', 'pipe', 'pipe'] });
}
