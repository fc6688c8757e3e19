/**
 * The partition from which UEFI boots: a FAT file system with GRUB as \EFI\BOOT\BOOTX64.EFI, the
 * name that firmware looks for on a disk that it does not know (UEFI 2.10, §3.5.1.1, §13.3).
 *
 * Left out: Secure Boot. It needs a signed boot loader, and GRUB is built here, unsigned.
 */
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../../base/errors.js';
import { needTools, runTool, type Tool, type ToolOptions } from '../tools.node.js';
import { rootLabel } from './configuration.js';

/** Size of the partition in bytes. */
export const efiBytes = 16 << 20;
/** Type in the PC's partition table (UEFI 2.10, §5.2.2). */
export const efiType = 0xef;

const efiTools = ['mkfs.vfat', 'mcopy'] as const;
/** Folder of GRUB's modules in its package. */
export const grubEfiFolder = 'usr/lib/grub/x86_64-efi';

/** GRUB modules in the image. It finds the root file system by label, and reads its grub.cfg. */
const grubModules = ['part_msdos', 'part_gpt', 'fat', 'ext2', 'search', 'search_label', 'configfile', 'normal', 'linux', 'serial', 'terminal', 'echo', 'ls', 'cat', 'boot', 'reboot', 'halt']; // prettier-ignore
const grubStart = `search --no-floppy --label ${rootLabel} --set root
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
`;

/** @throws FarbusError with installation advice if a program is missing */
export function needEfiTools(): void {
  needTools(...efiTools);
}

/**
 * Makes the content of the partition, {@link efiBytes} long.
 * @param modules Folder of GRUB's modules.
 * @param folder Folder for temporary files.
 */
export async function makeEfiPartition(modules: string, folder: string, options: ToolOptions): Promise<Uint8Array> {
  const tree = join(folder, 'efi');
  const image = join(folder, 'efi.img');
  const config = join(folder, 'efi.cfg');
  await mkdir(join(tree, 'EFI/BOOT'), { recursive: true });
  await writeFile(config, grubStart);
  const loader = join(tree, 'EFI/BOOT/BOOTX64.EFI');
  const kind = ['-O', 'x86_64-efi', '-d', modules, '-p', '/boot/grub', '-c', config];
  await succeed('grub-mkimage', [...kind, '-o', loader, ...grubModules], options);
  await writeFile(image, '');
  await truncate(image, efiBytes);
  await succeed('mkfs.vfat', ['-F', '16', '-n', 'FARBUS-EFI', image], options);
  await succeed('mcopy', ['-s', '-i', image, join(tree, 'EFI'), '::'], options);
  const content = await readFile(image);
  await Promise.all([tree, image, config].map((path) => rm(path, { recursive: true })));
  return content;
}

async function succeed(tool: Tool, args: readonly string[], options: ToolOptions): Promise<void> {
  const { status, errors } = await runTool(tool, args, options);
  if (status !== 0) throw new FarbusError(`${tool} failed: ${messageOf(errors)}`);
}
