/** Parts of something larger, and swap space. Sources: Linux, drivers/md/md_p.h; LVM2, label.h; mkswap(8); ZFS on-disk format. */
import { content, type ContentProbe } from './content.js';
import { diskText, hex, uuidText } from './text.js';

/** Linux software RAID: version 1 at one of three places, version 0.90 near the end. */
export const linuxRaid: ContentProbe = async (reader) => {
  const sectors = Math.floor(reader.size / 512);
  // Version 1.2, 1.1, 1.0 (8 KiB from the end, on 4 KiB).
  for (const at of [4096, 0, (sectors - 16 - (sectors % 8)) * 512]) {
    const view = await reader.view(at, 64);
    if (view?.getUint32(0, true) !== 0xa92b4efc || view.getUint32(4, true) !== 1) continue;
    // It says where it is, in sectors: one elsewhere is a copy (md_p.h, super_offset).
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

/** An LVM2 physical volume: its label is in one of the first four sectors. */
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

/** Swap space: its name is at the end of the first page, whose size is that of the machine that made it. */
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
    // The magic alone can stand in a file of another file system; its header cannot (Linux, union swap_header).
    const version = new DataView(bytes.buffer).getUint32(0, true);
    if (!sleeping && version !== 1 && version !== 0x0100_0000) continue;
    const label = diskText(bytes.subarray(28, 44));
    return content('swap', sleeping ? 'swsuspend' : 'swap', label, uuidText(bytes.subarray(12, 28)));
  }
  return undefined;
};

/** A member of a ZFS pool: at least four uberblocks in its first label, as blkid asks for. */
export const zfsMember: ContentProbe = async (reader) => {
  let found = 0;
  for (let at = 128 << 10; at < 256 << 10; at += 1024) {
    const bytes = await reader.bytes(at, 8);
    if (!bytes) return undefined;
    const digits = hex(bytes);
    if ((digits === '0cb1ba0000000000' || digits === '0000000000bab10c') && ++found === 4) {
      return content('member', 'zfs_member');
    }
  }
  return undefined;
};
