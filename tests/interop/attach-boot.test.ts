/** A 64-bit operating system in QEMU that boots from an attached disk, copy-on-write, the disk itself untouched. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { farbusServe, freeSocket, missing } from '../support/nbd-peers.js';
import { makeBootDisk } from '../support/amd64-disk.js';
import { tempPath } from '../support/temp.js';
import { execute, farbusFile } from './farbus.js';

/** Emulated also where there is KVM: that of a machine that is virtual itself may be there and not work. */
const machine = ['-machine', 'pc,accel=tcg', '-m', '512', '-nodefaults', '-no-reboot'];
const console = ['-display', 'none', '-serial', 'stdio'];
const disk = ['-drive', 'file={nbd},format=raw,if=none,id=disk', '-device', 'nvme,drive=disk,serial=1,bootindex=0'];
const qemu = ['qemu-system-x86_64', ...machine, ...console, ...disk];

const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

describe.skipIf(missing('qemu-system-x86_64') || missing('grub-mkimage'))('booting from an attached disk', () => {
  it('a far disk with an overlay: each boot sees what the one before wrote, the disk stays as it is', async () => {
    const { path, hash } = await makeBootDisk();
    const before = sha256(path);
    const server = await farbusServe(freeSocket(), 'disk', ['--read-only', `disk=${path}`]);
    const overlay = tempPath('changes.overlay');
    for (let boot = 0; boot < 2; boot++) {
      const args = [farbusFile, 'attach', server.uri, '--overlay', overlay, '--', ...qemu];
      const { code, stdout, stderr } = await execute(process.execPath, args, 180_000);
      expect(stdout, stderr).toContain(`hash ${hash}`);
      expect(stdout).toContain(`seen ${boot}`);
      expect(code).toBe(0);
    }
    await server.kill();
    expect(sha256(path)).toBe(before);
  }, 400_000);
});
