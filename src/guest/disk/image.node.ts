/**
 * A disk that a PC's BIOS boots from: a master boot record with GRUB's boot sector and one partition, GRUB's core between the
 * two, and an ext4 file system.
 *
 * Specification: the partition table of the PC (UEFI 2.10 section 5.2.1); what grub-install does in GRUB's manual, "BIOS
 * installation". Left out: GPT and EFI, and GRUB's protection of the gap by error correction.
 */
import { access, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../../base/errors.js';
import { needTools, runTool } from '../tools.node.js';
import type { ToolOptions } from '../tools.node.js';
import { rootLabel } from './configuration.js';
import type { RootTree } from './tree.node.js';

const sectorBytes = 512;
/** Where the partition begins: GRUB's core fits before it. */
const partitionStart = 1 << 20;
/** Code of the boot sector; the partition table and the disk's signature come after it. */
const bootCodeBytes = 440;
const linuxType = 0x83;
/** Of the PC's table: cylinder, head and sector that cannot be said, as the disk is addressed by blocks. */
const beyondChs = [0xfe, 0xff, 0xff];

/** What GRUB can do before it has read anything from the file system. The rest is found there, if it is put there. */
const grubModules = ['biosdisk', 'part_msdos', 'ext2', 'normal', 'linux', 'serial', 'terminal', 'echo', 'ls', 'cat', 'boot', 'reboot', 'halt']; // prettier-ignore
const grubFolder = '/usr/lib/grub/i386-pc';

/** Programs that making an image takes. */
const imageTools = ['mkfs.ext4', 'debugfs', 'grub-mkimage'] as const;

/** @throws FarbusError that says what to install. */
export async function needImageTools(): Promise<void> {
  needTools(...imageTools);
  await access(join(grubFolder, 'boot.img')).catch(() => {
    throw new FarbusError(`${grubFolder} is not there: run "sudo apt-get install grub-pc-bin"`);
  });
}

/**
 * Makes the image at `path` out of a root file system with /boot/grub/grub.cfg in it.
 * @param size of the disk, in bytes: a multiple of 1 MiB.
 * @param folder for what is between.
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
  // No lazy initialization, which would have the guest write the rest in its first minutes.
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

/** The files belong to whom the packages say, whoever runs this. */
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
  // It goes on after errors, and says them only.
  const trouble = errors.split('\n').filter((line) => line !== '' && !line.startsWith('debugfs 1.'));
  if (status !== 0 || trouble.length > 0) throw new FarbusError(`debugfs failed: ${trouble[0] ?? `status ${status}`}`);
}

/** What grub-install does: the boot sector's code, and the core in the sectors after it. */
async function putGrub(path: string, folder: string, size: number, options: ToolOptions): Promise<void> {
  const core = join(folder, 'core.img');
  // "(,msdos1)": the partition of the disk that the firmware has booted, whichever it is to GRUB.
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
