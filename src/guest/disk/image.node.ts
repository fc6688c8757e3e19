/**
 * Makes a disk image that a PC's BIOS boots from: a master boot record with GRUB's boot sector and
 * one partition, GRUB's core image before the partition, and an ext4 file system. A disk that UEFI
 * can boot as well has a second partition for that (efi.node.ts).
 *
 * Specification: the PC's partition table (UEFI 2.10 section 5.2.1); grub-install in GRUB's
 * manual, "BIOS installation".
 *
 * Left out: GPT, and GRUB's error correction of its core image.
 */
import { access, open, readFile, truncate, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../../base/errors.js';
import { needTools, runTool } from '../tools.node.js';
import type { ToolOptions } from '../tools.node.js';
import { rootLabel } from './configuration.js';
import { efiBytes, efiType, makeEfiPartition } from './efi.node.js';
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

/** An image to be made. */
export interface ImagePlan {
  /** Size of the disk in bytes, a multiple of 1 MiB. */
  readonly size: number;
  /** Folder for temporary files. */
  readonly folder: string;
  /** Folder of GRUB's modules for UEFI. Default: only a BIOS can boot the disk. */
  readonly efiModules?: string | undefined;
}

/** Makes the image `path` from a root file system that contains /boot/grub/grub.cfg. */
export async function makeImage(
  path: string,
  tree: RootTree,
  { size, folder, efiModules }: ImagePlan,
  options: ToolOptions = {},
): Promise<void> {
  await writeFile(path, '');
  await truncate(path, size);
  const efi = efiModules === undefined ? undefined : await makeEfiPartition(efiModules, folder, options);
  const end = size - (efi?.length ?? 0);
  const kib = (end - partitionStart) >> 10;
  // No lazy initialization: the guest would write the rest in its first minutes.
  const extended = `offset=${partitionStart},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0`;
  const made = await runTool(
    'mkfs.ext4',
    ['-q', '-F', '-L', rootLabel, '-E', extended, '-d', tree.folder, path, `${kib}k`],
    options,
  );
  if (made.status !== 0) throw new FarbusError(`mkfs.ext4 failed: ${messageOf(made.errors)}; is --size large enough?`);
  await giveOwners(path, tree, options);
  const file = await open(path, 'r+');
  try {
    const sector = await putGrub(file, folder, options);
    putPartition(sector, 0, linuxType, partitionStart, end);
    if (efi) {
      putPartition(sector, 1, efiType, end, size);
      await file.write(efi, 0, efiBytes, end);
    }
    await file.write(sector, 0, sectorBytes, 0);
  } finally {
    await file.close();
  }
}

/** Describes a partition in the master boot record. The first one is the active one. */
function putPartition(sector: Buffer, index: number, type: number, start: number, end: number): void {
  const at = 446 + 16 * index;
  sector.set([index === 0 ? 0x80 : 0, ...beyondChs, type, ...beyondChs], at);
  sector.writeUInt32LE(start / sectorBytes, at + 8);
  sector.writeUInt32LE((end - start) / sectorBytes, at + 12);
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
 * Does what grub-install does: writes the core image into the sectors after the boot sector.
 * @returns the boot sector, with its code and without partitions
 */
async function putGrub(file: FileHandle, folder: string, options: ToolOptions): Promise<Buffer> {
  const core = join(folder, 'core.img');
  // "(,msdos1)" is partition 1 of the disk that the firmware booted, whatever its GRUB number.
  const args = ['-O', 'i386-pc', '-o', core, '-p', '(,msdos1)/boot/grub', ...grubModules];
  const made = await runTool('grub-mkimage', args, options);
  if (made.status !== 0) throw new FarbusError(`grub-mkimage failed: ${messageOf(made.errors)}`);
  const bytes = await readFile(core);
  if (bytes.length > partitionStart - sectorBytes) throw new FarbusError('GRUB does not fit before the partition');
  const sector = Buffer.alloc(sectorBytes);
  (await readFile(join(grubFolder, 'boot.img'))).copy(sector, 0, 0, bootCodeBytes);
  sector.write('frbs', bootCodeBytes, 'latin1');
  sector.writeUInt16LE(0xaa55, 510);
  await file.write(bytes, 0, bytes.length, sectorBytes);
  return sector;
}
