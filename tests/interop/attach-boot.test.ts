/**
 * A 64-bit operating system in QEMU that boots from an attached disk with copy-on-write. The disk
 * itself stays unchanged.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeBootDisk, type BootDisk } from '../support/amd64-disk.js';
import { farbusServe, freeSocket, missing } from '../support/nbd-peers.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempPath } from '../support/temp.js';
import { execute, farbusFile } from './farbus.js';

/** Always emulated, even if KVM is present: in a virtual machine KVM may exist but not work. */
const machine = ['-machine', 'pc,accel=tcg', '-m', '512', '-nodefaults', '-no-reboot'];
const console = ['-display', 'none', '-serial', 'stdio'];
const drive = ['-drive', 'file={nbd},format=raw,if=none,id=disk', '-device', 'nvme,drive=disk,serial=1,bootindex=0'];
const qemu = ['qemu-system-x86_64', ...machine, ...console, ...drive];

const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

describe.skipIf(missing('qemu-system-x86_64') || missing('grub-mkimage'))('booting from an attached disk', () => {
  let disk: BootDisk;
  let before: string;
  const ending: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    disk = await makeBootDisk();
    before = sha256(disk.path);
  }, 300_000);
  afterEach(async () => {
    for (const end of ending.splice(0)) await end();
  });

  async function boot(source: string, overlay: string, seen: number): Promise<void> {
    const args = [farbusFile, 'attach', source, '--overlay', overlay, '--', ...qemu];
    const { code, stdout, stderr } = await execute(process.execPath, args, 180_000);
    expect(stdout, stderr).toContain(`hash ${disk.hash}`);
    expect(stdout).toContain(`seen ${seen}`);
    expect(code).toBe(0);
    expect(sha256(disk.path)).toBe(before);
  }

  it('over NBD: each boot sees the writes of the previous one, and the disk stays unchanged', async () => {
    const server = await farbusServe(freeSocket(), 'disk', ['--read-only', `disk=${disk.path}`]);
    ending.push(() => server.kill());
    const overlay = tempPath('changes.overlay');
    await boot(server.uri, overlay, 0);
    await boot(server.uri, overlay, 1);
  }, 400_000);

  it.skipIf(cannotSshd() !== undefined)(
    'over ssh, with nothing of ours on the other side',
    async () => {
      const server = await Sshd.start();
      ending.push(() => server.stop());
      process.env['FARBUS_SSH'] = server.ssh;
      ending.push(async () => void delete process.env['FARBUS_SSH']);
      await boot(`ssh+dd://test${disk.path}`, tempPath('changes.overlay'), 0);
    },
    400_000,
  );
});
