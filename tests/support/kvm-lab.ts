/**
 * A Linux with a complete KVM, on a machine that has none: QEMU emulates a processor with AMD's SVM
 * and nested paging, Debian's amd64 kernel runs on it, and this machine's root is its root,
 * read-only (9p): Node, the checkout and the cache are there as they are here.
 *
 * Times in it mean little; counts and results are real. /run is writable. This machine's loopback
 * is at {@link hostAddress}. The cache is read-only there: prepare the guests' files before.
 *
 * QEMU's emulated SVM sometimes stops the whole lab: a processor never comes back from its first
 * VMRUN, or the lab's kernel finds its stack overwritten and panics. The lab therefore gives a sign
 * of life each second. One that has stopped, or whose script does not end in most of its time, is
 * started again, with a line that says so. These signs and the messages of the lab's kernel are on
 * a serial port of their own, so that the output of a guest is not taken for them.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cacheFolder } from '../../src/guest/cache.node.js';
import { cpioArchive, type CpioEntry } from '../../src/guest/cpio.js';
import { fetchPackages } from '../../src/guest/fetch.node.js';
import { readPackageLock } from '../../src/guest/lock.node.js';
import { unpackPackage } from '../../src/guest/unpack.node.js';
import { withoutFunction } from './kernel-module.js';
import { tempFolder } from './temp.js';

/** This machine's loopback address, as QEMU's user network shows it. */
export const hostAddress = '10.0.2.2';

/** Modules in the order in which they can be loaded. */
const modules = [
  'virtio',
  'virtio_ring',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'failover',
  'net_failover',
  'virtio_net',
  'netfs',
  'fscache',
  '9pnet',
  '9pnet_virtio',
  '9p',
  'irqbypass',
  'ccp',
  'kvm',
  'kvm-amd',
];
const kernelFolders = [
  'arch/x86/kvm',
  'drivers/crypto/ccp',
  'drivers/net/net_failover.ko',
  'drivers/net/virtio_net.ko',
  'drivers/virtio',
  'fs/9p',
  'fs/fscache',
  'fs/netfs',
  'net/9p',
  'net/core/failover.ko',
  'virt/lib',
];

const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while sleep 1; do echo beat; done > /dev/ttyS1 &
exec > /dev/ttyS0 2>&1
for name in $(cat /modules/order); do insmod /modules/$name.ko; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /root
for name in proc sys dev; do mount --move /$name /root/$name; done
mount -t tmpfs run /root/run
mkdir -p /root/dev/shm
chroot /root /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run \\
  TMPDIR=/run XDG_RUNTIME_DIR=/run XDG_STATE_HOME=/run/state LC_ALL=C.UTF-8 CACHE /bin/sh SCRIPT
echo "lab status $?"
poweroff -f
`;

export interface LabResult {
  /** Exit status of the script; undefined if the lab did not come to its end. */
  readonly status: number | undefined;
  readonly output: string;
}

/** Runs a script (sh) as root in the lab, and ends the lab after `limitMs` ms. */
export async function inKvmLab(script: string, limitMs: number): Promise<LabResult> {
  const lock = await readPackageLock(12, 'amd64');
  const [kernel, busybox] = await fetchPackages(['linux-image-amd64', 'busybox-static'], { lock });
  const parts = kernelFolders.map((path) => `./lib/modules/*/kernel/${path}`);
  const kernelFolder = await unpackPackage(kernel!, ['./boot/vmlinuz-*', ...parts]);
  const busyboxFolder = await unpackPackage(busybox!, ['./bin/busybox']);
  const folder = tempFolder();
  const scriptFile = join(folder, 'script');
  writeFileSync(scriptFile, script);
  writeFileSync(join(folder, 'initramfs'), initramfs(kernelFolder, busyboxFolder, scriptFile));
  const boot = join(kernelFolder, 'boot');
  const kernelFile = join(boot, readdirSync(boot)[0]!);
  const end = performance.now() + limitMs;
  for (let starts = 1; ; starts++) {
    const left = end - performance.now();
    const allowed = starts < mostStarts ? left * firstShare : left;
    const { stopped, ...result } = await runQemu(kernelFile, join(folder, 'initramfs'), allowed);
    if (stopped === undefined || starts === mostStarts) return result;
    console.error(
      `the KVM lab ${stopped} (start ${starts} of ${mostStarts}); it starts again. Its output:\n${result.output}`,
    );
  }
}

const mostStarts = 3;
/** Part of the time that is left, for a start after which another one is possible. */
const firstShare = 0.6;
/** Longest time without a sign of life, in ms. A loaded machine delays it by some seconds. */
const longestSilenceMs = 60_000;
/** Lines of the lab's kernel about a timer or processor that the emulator has lost. */
const lockup = /Kernel panic|BUG: soft lockup|rcu_preempt self-detected stall|rcu: INFO: .* stall/;

function initramfs(kernelFolder: string, busyboxFolder: string, scriptFile: string): Uint8Array {
  const entries = new Map<string, CpioEntry>();
  const file = (path: string, data: Uint8Array, mode: number) => entries.set(path, { type: 'file', mode, data });
  for (const path of ['bin', 'dev', 'modules', 'proc', 'root', 'sys'])
    entries.set(path, { type: 'directory', mode: 0o755 });
  entries.set('dev/console', { type: 'character', mode: 0o600, major: 5, minor: 1 });
  file('bin/busybox', readFileSync(join(busyboxFolder, 'bin/busybox')), 0o755);
  const paths = readdirSync(kernelFolder, { recursive: true, encoding: 'utf8' });
  const found = modules.filter((name) => {
    const path = paths.find((one) => basename(one) === `${name}.ko`);
    if (path !== undefined) file(`modules/${name}.ko`, moduleFile(name, join(kernelFolder, path)), 0o644);
    return path !== undefined;
  });
  file('modules/order', Buffer.from(found.join('\n')), 0o644);
  const cache = `XDG_CACHE_HOME=${dirname(cacheFolder())}`;
  file('init', Buffer.from(init.replace('CACHE', cache).replace('SCRIPT', scriptFile)), 0o755);
  return cpioArchive(entries);
}

/**
 * A module of the lab's kernel. KVM lets a guest write CR8 (the task priority) without an exit
 * while no interrupt waits behind it. QEMU's emulated processor aborts at such a write if an
 * interrupt is pending, and 64-bit OVMF makes many. In the lab, KVM therefore keeps the exit that
 * it asks for at first, and changes the priority itself.
 */
function moduleFile(name: string, path: string): Uint8Array {
  const module = readFileSync(path);
  return name === 'kvm-amd' ? withoutFunction(module, 'svm_update_cr8_intercept') : module;
}

async function runQemu(kernel: string, initrd: string, limitMs: number): Promise<LabResult & { stopped?: string }> {
  const signs = join(tempFolder(), 'signs');
  const machine = [
    '-M',
    'q35',
    '-cpu',
    'max,vendor=AuthenticAMD',
    '-accel',
    'tcg,thread=multi',
    '-smp',
    '2',
    '-m',
    '6000',
  ];
  const plain = ['-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio', '-serial', `file:${signs}`];
  const boot = [
    '-kernel',
    kernel,
    '-initrd',
    initrd,
    '-append',
    'console=ttyS1 quiet panic=-1 mitigations=off no_timer_check',
  ];
  const network = ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='];
  const root = [
    ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
    ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
  ];
  const qemu = spawn('qemu-system-x86_64', [...machine, ...plain, ...boot, ...network, ...root], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  let stopped: string | undefined;
  const stop = (how: string) => {
    stopped ??= how;
    qemu.kill('SIGKILL');
  };
  const timer = setTimeout(() => stop(`did not end within ${Math.round(limitMs / 1000)} s`), limitMs);
  const last = { length: 0, time: performance.now() };
  const watch = setInterval(() => {
    const { size: length } = statSync(signs, { throwIfNoEntry: false }) ?? { size: 0 };
    if (length > last.length) Object.assign(last, { length, time: performance.now() });
    if (performance.now() - last.time > longestSilenceMs) stop('gave no sign of life');
    if (lockup.test(messagesIn(signs))) stop('lost a processor');
  }, 1000);
  qemu.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString().replaceAll('\r', '');
  });
  await new Promise((resolve, reject) => qemu.once('error', reject).once('close', resolve));
  clearTimeout(timer);
  clearInterval(watch);
  const status = /^lab status (\d+)$/m.exec(output)?.[1];
  // A kernel that panics starts anew at once and so ends QEMU before the watch reads the message.
  if (status === undefined && lockup.test(messagesIn(signs))) stopped ??= 'stopped';
  if (status === undefined) output += `\nThe lab's kernel:\n${messagesIn(signs)}`;
  return {
    status: status === undefined ? undefined : Number(status),
    output,
    ...(status === undefined && stopped !== undefined && { stopped }),
  };
}

/** The messages of the lab's kernel in the file of signs. */
function messagesIn(file: string): string {
  return existsSync(file)
    ? readFileSync(file, 'latin1')
        .replaceAll(/beat|\r/g, '')
        .replaceAll(/\n+/g, '\n')
    : '';
}
