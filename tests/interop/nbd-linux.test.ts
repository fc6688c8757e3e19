/**
 * Linux's own NBD client, in Debian's kernel for cloud machines in QEMU, with `farbus serve`:
 * plain, and over TLS with a client certificate (nbd-client's own TLS). The guest makes a file
 * system, writes, reads back after a new mount, and checks it. Then e2fsck and debugfs check the
 * server's files. QEMU emulates the processor, so this takes about a minute.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { fetchPackages } from '../../src/guest/fetch.node.js';
import { unpackPackage } from '../../src/guest/unpack.node.js';
import { amd64Packages } from '../support/amd64-disk.js';
import { farbusServe, freePort, missing } from '../support/nbd-peers.js';
import { tempFolder, tempPath } from '../support/temp.js';
import { authority, noOpenssl } from '../support/tls-certificates.js';

const size = 32 << 20;
/** The guest's file contains this many lines, each with a number. */
const lines = 200_000;
/** The address under which QEMU's user network presents this computer's loopback. */
const host = '10.0.2.2';
/** In order of dependency. */
const modules = [
  ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci'].map(
    (name) => `drivers/virtio/${name}.ko`,
  ),
  'net/core/failover.ko',
  'drivers/net/net_failover.ko',
  'drivers/net/virtio_net.ko',
  'drivers/block/nbd.ko',
];
/** Programs of this computer that run in the guest, with their libraries. */
const programs = ['nbd-client', 'mke2fs', 'e2fsck'];

const init = (ports: { plain: number; tls: number }): string => `#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox mkdir -p /proc /sys /dev /mnt /run /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
for module in ${modules.map((path) => basename(path)).join(' ')}; do insmod /modules/$module || echo "guest: no $module"; done
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
try() {
  name=$1 disk=$2
  shift 2
  fail() { echo "guest: $name failed: $1"; poweroff -f; }
  nbd-client "$@" || fail nbd-client
  echo "guest: $name size $(cat /sys/class/block/\${disk#/dev/}/size)"
  mke2fs -q $disk || fail mke2fs
  mount -t ext4 $disk /mnt || fail mount
  seq 1 ${lines} > /mnt/numbers || fail write
  umount /mnt || fail umount
  mount -t ext4 -o ro $disk /mnt || fail 'second mount'
  echo "guest: $name sum $(sha256sum < /mnt/numbers)"
  umount /mnt || fail 'second umount'
  e2fsck -f -n $disk > /dev/null || fail e2fsck
  nbd-client -d $disk || fail disconnect
  echo "guest: $name done"
}
try plain /dev/nbd0 ${host} ${ports.plain} /dev/nbd0 -N disk -timeout 60
try tls /dev/nbd1 ${host} ${ports.tls} /dev/nbd1 -N disk -timeout 60 -tlshostname localhost \\
  -cacertfile /pki/ca-cert.pem -certfile /pki/client-cert.pem -keyfile /pki/client-key.pem
poweroff -f
`;

/** Finds the path of a program of this computer. */
function find(program: string): string {
  const folders = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':');
  const found = folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${program} is not installed`);
  return found;
}

/** Makes an initramfs and extracts the kernel. */
async function makeGuest(script: string, pki: string): Promise<{ kernel: string; initramfs: string }> {
  const root = tempFolder();
  const put = (from: string, to: string): void => {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(from, join(root, to));
  };
  const [kernel, busybox] = await fetchPackages(['linux-image-cloud-amd64', 'busybox-static'], { lock: amd64Packages });
  const wanted = ['./boot/vmlinuz-*', ...modules.map((path) => `./lib/modules/*/kernel/${path}`)];
  const unpacked = await unpackPackage(kernel!, wanted);
  const release = readdirSync(join(unpacked, 'lib/modules'))[0]!;
  for (const path of modules) put(join(unpacked, 'lib/modules', release, 'kernel', path), `modules/${basename(path)}`);
  put(join(await unpackPackage(busybox!, ['./bin/busybox']), 'bin/busybox'), 'bin/busybox');
  for (const program of programs) {
    const path = find(program);
    put(path, `sbin/${program}`);
    for (const [library] of execFileSync('ldd', [path], { encoding: 'utf8' }).matchAll(/\/\S+(?= \()/g)) {
      if (!existsSync(join(root, library))) put(library, library);
    }
  }
  for (const name of readdirSync(pki)) put(join(pki, name), `pki/${name}`);
  // nbd-client looks up the user's name.
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  symlinkSync('/proc/mounts', join(root, 'etc/mtab'));
  writeFileSync(join(root, 'init'), script);
  chmodSync(join(root, 'init'), 0o755);
  const initramfs = tempPath('initramfs');
  execFileSync('sh', ['-c', `find . | cpio --quiet -o -H newc >"$1"`, 'sh', initramfs], { cwd: root });
  return { kernel: join(unpacked, 'boot', `vmlinuz-${release}`), initramfs };
}

const without = missing('qemu-system-x86_64') || missing('nbd-client') || missing('cpio') || noOpenssl();

describe.skipIf(without)("Linux's NBD client", () => {
  it('uses our server, plain and over TLS, and its writes are in the file', async () => {
    const images = [tempPath('plain.img'), tempPath('tls.img')] as const;
    for (const path of images) {
      writeFileSync(path, '');
      truncateSync(path, size);
    }
    const pki = authority();
    const plain = await freePort();
    const server = await farbusServe(plain, 'disk', [`disk=${images[0]}`]);
    onTestFinished(() => server.kill());
    const tls = await freePort();
    const settings = ['--tls-certificates', pki.folder, '--tls-verify-peer', '--tls', 'require'];
    const secured = await farbusServe(tls, 'disk', [...settings, `disk=${images[1]}`]);
    onTestFinished(() => secured.kill());

    const guest = await makeGuest(init({ plain: plain.port, tls: tls.port }), pki.folder);
    const qemu = spawn('qemu-system-x86_64', [
      ...['-machine', 'pc,accel=tcg', '-m', '512', '-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
      ...['-kernel', guest.kernel, '-initrd', guest.initramfs, '-append', 'console=ttyS0 quiet panic=-1'],
      ...['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,romfile='],
    ]);
    onTestFinished(() => void qemu.kill('SIGKILL'));
    let output = '';
    qemu.stdout.on('data', (bytes: Buffer) => (output += bytes.toString()));
    qemu.stderr.on('data', (bytes: Buffer) => (output += bytes.toString()));
    await once(qemu, 'exit');

    const numbers = Array.from({ length: lines }, (_, index) => `${index + 1}\n`).join('');
    const sum = createHash('sha256').update(numbers).digest('hex');
    for (const name of ['plain', 'tls']) {
      expect(output).toContain(`guest: ${name} size ${size / 512}`);
      expect(output).toContain(`guest: ${name} sum ${sum}`);
      expect(output).toContain(`guest: ${name} done`);
    }
    for (const path of images) {
      execFileSync(find('e2fsck'), ['-f', '-n', path], { stdio: 'pipe' });
      const options = { maxBuffer: 1 << 24, stdio: ['ignore', 'pipe', 'ignore'] as ['ignore', 'pipe', 'ignore'] };
      const stored = execFileSync(find('debugfs'), ['-R', 'cat /numbers', path], options);
      expect(createHash('sha256').update(stored).digest('hex')).toBe(sum);
    }
  }, 400_000);
});
