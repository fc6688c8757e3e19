/** The partition from which UEFI boots a disk of `farbus guest-disk --arch amd64`. */
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { grubConfig } from '../../src/guest/disk/configuration.js';
import { efiBytes, grubEfiFolder, makeEfiPartition } from '../../src/guest/disk/efi.node.js';
import { packageFolder } from '../../src/guest/firmware.node.js';
import { readPackageLock } from '../../src/guest/lock.node.js';
import { tempFolder } from '../support/temp.js';

it('is a whole FAT file system with a loader for x86-64, which looks for the root file system', async () => {
  const lock = await readPackageLock(12, 'amd64');
  const modules = await packageFolder('grub-efi-amd64-bin', [`./${grubEfiFolder}/*`], { lock });
  const folder = tempFolder();
  const content = await makeEfiPartition(join(modules, grubEfiFolder), folder, {});
  expect(content).toHaveLength(efiBytes);
  expect(readdirSync(folder)).toEqual([]);
  const image = join(folder, 'image');
  writeFileSync(image, content);
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  execFileSync('fsck.vfat', ['-n', image], { env });
  execFileSync('mcopy', ['-i', image, '::/EFI/BOOT/BOOTX64.EFI', join(folder, 'loader')], { env });
  const loader = readFileSync(join(folder, 'loader'));
  const header = loader.readUInt32LE(0x3c);
  expect(loader.toString('latin1', header, header + 4)).toBe('PE\0\0');
  expect(loader.readUInt16LE(header + 4)).toBe(0x8664);
  expect(loader.includes('search --no-floppy --label farbus-root --set root')).toBe(true);
});

it('lets GRUB print on one console only where the firmware shows one on the other', () => {
  expect(grubConfig(false)).toContain('\nterminal_output serial\n');
  expect(grubConfig(true)).toContain('\nterminal_output console serial\n');
});
