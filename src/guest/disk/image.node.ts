/**
 * Makes a disk image that a PC's BIOS boots from: a master boot record with GRUB's boot sector and
 * one partition, GRUB's core image before the partition, and an ext4 file system.
 *
 * Specification: the PC's partition table (UEFI 2.10 section 5.2.1); grub-install in GRUB's
 * manual, "BIOS installation".
 *
 * Left out: GPT, EFI, and GRUB's error correction of its core image.
 */
import { access, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../../base/errors.js';
import { needTools, runTool } from '../tools.node.js';
import type { ToolOptions } from '../tools.node.js';
import { rootLabel } from './configuration.js';
import type { RootTree } from './tree.node.js';

const sectorBytes = 512;
/** Start of the partition in bytes. GRUB's core image fits before it. */
const partitionStart = 1 << 20;
/**
 * Size of the boot code in the boot sector; the disk signature and the partition table follow it.
 */
const bootCodeBytes = 440;
const linuxType = 0x83;
/** CHS address in the partition table that means "beyond CHS, use the LBA". */
const beyondChs = [0xfe, 0xff, 0xff];

/**
 * GRUB modules in the core image, for use before the file system is readable. GRUB loads others
 * from the file system if they are there.
 */
const grubModules = ['biosdisk', 'part_msdos', 'ext2', 'normal', 'linux', 'serial', 'terminal', 'echo', 'ls', 'cat', 'boot', 'reboot', 'halt']; // prettier-ignore
const grubFolder = '/usr/lib/grub/i386-pc';

/** Programs that making an image needs. */
const imageTools = ['mkfs.ext4', 'debugfs', 'grub-mkimage'] as const;

/** @throws FarbusError with installation advice if a program or GRUB is missing */
export async function needImageTools(): Promise<void> {
  needTools(...imageTools);
  await access(join(grubFolder, 'boot.img')).catch(() => {
    throw new FarbusError(`${grubFolder} is not there: run "sudo apt-get install grub-pc-bin"`);
  });
}

/**
 * Makes the image `path` from a root file system that contains /boot/grub/grub.cfg.
 * @param size Size of the disk in bytes, a multiple of 1 MiB.
 * @param folder Folder for temporary files.
 */
export async function makeImage(
  path: string,
  size: number,
  tree: RootTree,
  folder: string,
  options: ToolOptions = {},
): Promise<void> {
  await writeFile(path, '');
  await truncate(path, size);
  const kib = (size - partitionStart) >> 10;
  // No lazy initialization: the guest would write the rest in its first minutes.
  const extended = `offset=${partitionStart},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0`;
  const made = await runTool(
    'mkfs.ext4',
    ['-q', '-F', '-L', rootLabel, '-E', extended, '-d', tree.folder, path, `${kib}k`],
    options,
  );
  if (made.status !== 0) throw new FarbusError(`mkfs.ext4 failed: ${messageOf(made.errors)}; is --size large enough?`);
  await giveOwners(path, tree, options);
  await putGrub(path, folder, size, options);
}

/**
 * Sets the owners that the packages define: mkfs.ext4 takes over the user who runs this program.
 */
async function giveOwners(path: string, tree: RootTree, options: ToolOptions): Promise<void> {
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  const commands: string[] = [];
  for (const [file, owner] of tree.owners) {
    const name = JSON.stringify(`/${file}`);
    if (owner.uid !== uid) commands.push(`set_inode_field ${name} uid ${owner.uid}`);
    if (owner.gid !== gid) commands.push(`set_inode_field ${name} gid ${owner.gid}`);
  }
  if (commands.length === 0) return;
  const { status, errors } = await runTool('debugfs', ['-w', '-f', '-', `${path}?offset=${partitionStart}`], {
    ...options,
    input: Buffer.from(commands.join('\n') + '\n'),
  });
  // debugfs continues after an error and only prints it.
  const trouble = errors.split('\n').filter((line) => line !== '' && !line.startsWith('debugfs 1.'));
  if (status !== 0 || trouble.length > 0) throw new FarbusError(`debugfs failed: ${trouble[0] ?? `status ${status}`}`);
}

/**
 * Does what grub-install does: writes the boot sector's code, and the core image into the sectors
 * after it.
 */
async function putGrub(path: string, folder: string, size: number, options: ToolOptions): Promise<void> {
  const core = join(folder, 'core.img');
  // "(,msdos1)" is partition 1 of the disk that the firmware booted, whatever its GRUB number.
  const args = ['-O', 'i386-pc', '-o', core, '-p', '(,msdos1)/boot/grub', ...grubModules];
  const made = await runTool('grub-mkimage', args, options);
  if (made.status !== 0) throw new FarbusError(`grub-mkimage failed: ${messageOf(made.errors)}`);
  const bytes = await readFile(core);
  if (bytes.length > partitionStart - sectorBytes) throw new FarbusError('GRUB does not fit before the partition');
  const sector = Buffer.alloc(sectorBytes);
  (await readFile(join(grubFolder, 'boot.img'))).copy(sector, 0, 0, bootCodeBytes);
  const first = partitionStart / sectorBytes;
  sector.write('frbs', bootCodeBytes, 'latin1');
  sector.set([0x80, ...beyondChs, linuxType, ...beyondChs], 446);
  sector.writeUInt32LE(first, 454);
  sector.writeUInt32LE(size / sectorBytes - first, 458);
  sector.writeUInt16LE(0xaa55, 510);
  const file = await open(path, 'r+');
  try {
    await file.write(sector, 0, sectorBytes, 0);
    await file.write(bytes, 0, bytes.length, sectorBytes);
  } finally {
    await file.close();
  }
}
