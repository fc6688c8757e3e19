/**
 * Linux's own aoe driver, in a Debian kernel in QEMU, with our target over a UDP segment. The guest
 * finds the target, makes a file system, writes, and reads back after a new mount. Then e2fsck and
 * debugfs check the target's file. QEMU emulates the processor, so the guest takes about a minute.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createHash } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { prepareDebianGuest } from '../../src/guest/debian.node.js';
import { openUdp } from '../../src/network/ethernet/udp.node.js';
import { AoeTarget } from '../../src/protocol/aoe/target/target.js';
import { openPath } from '../../src/storage/open.node.js';
import { freeUdpPort } from '../support/aoe.js';
import { missing } from '../support/nbd-peers.js';
import { tempPath } from '../support/temp.js';

const size = 32 << 20;
/** The guest's file contains this many lines, each with a number. */
const lines = 200_000;

const init = `#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
modprobe ne2k-pci
ip link set eth0 up
modprobe aoe aoe_iflist=eth0
disk=/dev/etherd/e9.4
tries=0
while [ ! -b $disk ] && [ $tries -lt 60 ]; do sleep 1; tries=$((tries + 1)); done
modprobe ext4
fail() { echo "guest: failed: $1"; poweroff -f; }
echo "guest: size $(cat /sys/class/block/etherd!e9.4/size)"
mke2fs -q $disk || fail mke2fs
mkdir -p /mnt
mount -t ext4 $disk /mnt || fail mount
seq 1 ${lines} > /mnt/numbers || fail write
umount /mnt || fail umount
mount -t ext4 -o ro $disk /mnt || fail 'second mount'
echo "guest: sum $(sha256sum < /mnt/numbers)"
umount /mnt || fail 'second umount'
dd if=/dev/zero of=$disk bs=512 seek=${size / 512} count=1 2>/dev/null && fail 'write past the end'
echo 'guest: done'
poweroff -f
`;

describe.skipIf(missing('qemu-system-i386'))("Linux's aoe driver", () => {
  it('finds our target, and its writes are in the file', async () => {
    const guest = await prepareDebianGuest({ modules: [], modulesOnDemand: ['ne2k-pci', 'aoe', 'ext4'], init });
    const folder = tempPath('guest');
    const [kernel, initramfs, disk] = [`${folder}.kernel`, `${folder}.initramfs`, join(tempPath('disk.img'))];
    writeFileSync(kernel, guest.kernel.bzImage);
    writeFileSync(initramfs, guest.initramfs);
    writeFileSync(disk, '');
    truncateSync(disk, size);

    const host = '127.0.0.1';
    const [ours, theirs] = [await freeUdpPort(), await freeUdpPort()];
    const segment = await openUdp({ local: { host, port: ours }, remote: { host, port: theirs } });
    onTestFinished(() => segment.close());
    const device = await openPath(disk);
    onTestFinished(() => device.close());
    const target = new AoeTarget(segment, device, { shelf: 9, slot: 4 });
    onTestFinished(() => target.close());

    const net = `dgram,id=n0,local.type=inet,local.host=${host},local.port=${theirs},remote.type=inet,remote.host=${host},remote.port=${ours}`;
    const qemu = spawn('qemu-system-i386', [
      ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot', '-m', '192'],
      ...['-kernel', kernel, '-initrd', initramfs, '-append', 'console=ttyS0 quiet cryptomgr.notests panic=-1'],
      ...['-netdev', net, '-device', 'ne2k_pci,netdev=n0,romfile='],
    ]);
    onTestFinished(() => void qemu.kill('SIGKILL'));
    let output = '';
    qemu.stdout.on('data', (bytes: Buffer) => (output += bytes.toString()));
    qemu.stderr.on('data', (bytes: Buffer) => (output += bytes.toString()));
    await once(qemu, 'exit');

    const numbers = Array.from({ length: lines }, (_, index) => `${index + 1}\n`).join('');
    const sum = createHash('sha256').update(numbers).digest('hex');
    expect(output).toContain(`guest: size ${size / 512}`);
    expect(output).toContain(`guest: sum ${sum}`);
    expect(output).toContain('guest: done');
    expect(target.counters.bytesWritten).toBeGreaterThan(numbers.length);

    const e2fsprogs = {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    } as const;
    execFileSync('e2fsck', ['-f', '-n', disk], e2fsprogs);
    const stored = execFileSync('debugfs', ['-R', 'cat /numbers', disk], {
      ...e2fsprogs,
      maxBuffer: 1 << 24,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(createHash('sha256').update(stored).digest('hex')).toBe(sum);
  }, 300_000);
});
