/**
 * Probes for members of larger volumes (RAID, LVM, ZFS) and for swap space. Sources: Linux,
 * drivers/md/md_p.h; LVM2, label.h; mkswap(8); ZFS on-disk format.
 */
import { hexOf } from '../base/hex.js';
import { content, type ContentProbe } from './content.js';
import { diskText, uuidText } from './text.js';

/**
 * Linux software RAID: a superblock of version 1 at one of three places, or of version 0.90 near
 * the end.
 */
export const linuxRaid: ContentProbe = async (reader) => {
  const sectors = Math.floor(reader.size / 512);
  // Versions 1.2, 1.1 and 1.0 (8 KiB before the end, at a multiple of 4 KiB).
  for (const at of [4096, 0, (sectors - 16 - (sectors % 8)) * 512]) {
    const view = await reader.view(at, 64);
    if (view?.getUint32(0, true) !== 0xa92b4efc || view.getUint32(4, true) !== 1) continue;
    // The superblock contains its own sector (md_p.h, super_offset). If that differs, it is a copy.
    if ((await reader.view(at + 144, 8))?.getBigUint64(0, true) !== BigInt(at / 512)) continue;
    const bytes = new Uint8Array(view.buffer);
    const name = diskText(bytes.subarray(32, 64));
    const found = content('member', 'linux_raid_member', name, uuidText(bytes.subarray(16, 32)));
    return at > 4096 ? { ...found, at } : found;
  }
  const oldAt = reader.size - (reader.size % 65536) - 65536;
  const old = await reader.view(oldAt, 68);
  if (old?.getUint32(0, true) !== 0xa92b4efc || old.getUint32(4, true) !== 0) return undefined;
  const words = [20, 52, 56, 60].map((at) => old.getUint32(at, true).toString(16).padStart(8, '0')).join('');
  const uuid = words.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  return { ...content('member', 'linux_raid_member', undefined, uuid), at: oldAt };
};

/** LVM2 physical volume: a label in one of the first four sectors. */
export const lvm: ContentProbe = async (reader) => {
  for (let sector = 0; sector < 4; sector++) {
    const bytes = await reader.bytes(sector * 512, 512);
    if (!bytes || diskText(bytes.subarray(0, 8), 'latin1') !== 'LABELONE') continue;
    if (diskText(bytes.subarray(24, 32), 'latin1') !== 'LVM2 001') continue;
    const at = new DataView(bytes.buffer).getUint32(20, true);
    const id = at <= 480 ? diskText(bytes.subarray(at, at + 32), 'latin1') : '';
    const uuid = /^[A-Za-z0-9]{32}$/.test(id)
      ? id.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7')
      : undefined;
    return content('member', 'LVM2_member', undefined, uuid);
  }
  return undefined;
};

/**
 * Swap space: a name at the end of the first page, whose length depends on the computer that made
 * it.
 */
export const swap: ContentProbe = async (reader) => {
  for (const page of [4096, 8192, 16384, 32768, 65536]) {
    const magic = await reader.bytes(page - 10, 10);
    if (!magic) return undefined;
    const text = diskText(magic, 'latin1');
    if (text === 'SWAP-SPACE') return content('swap', 'swap');
    const sleeping = /^(S1SUSPEND|S2SUSPEND|ULSUSPEND|LINHIB0001)/.test(text);
    if (text !== 'SWAPSPACE2' && !sleeping) continue;
    const bytes = await reader.bytes(1024, 44);
    if (!bytes) return undefined;
    // Check the header's version too: the name alone may be data of a file (Linux, union
    // swap_header).
    const version = new DataView(bytes.buffer).getUint32(0, true);
    if (!sleeping && version !== 1 && version !== 0x0100_0000) continue;
    const label = diskText(bytes.subarray(28, 44));
    return content('swap', sleeping ? 'swsuspend' : 'swap', label, uuidText(bytes.subarray(12, 28)));
  }
  return undefined;
};

/** Member of a ZFS pool: at least four uberblocks in its first label, as blkid requires. */
export const zfsMember: ContentProbe = async (reader) => {
  let found = 0;
  for (let at = 128 << 10; at < 256 << 10; at += 1024) {
    const bytes = await reader.bytes(at, 8);
    if (!bytes) return undefined;
    const digits = hexOf(bytes);
    if ((digits === '0cb1ba0000000000' || digits === '0000000000bab10c') && ++found === 4) {
      return content('member', 'zfs_member');
    }
  }
  return undefined;
};
