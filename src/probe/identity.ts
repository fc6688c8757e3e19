/**
 * What identifies the bytes of a disk, whoever serves them and however they are carried: the identifier that its partition
 * table has, or its file system's or volume's own. It changes when the disk is partitioned or formatted anew, and a clone
 * has it too. Sources: as in the probes.
 */
import type { BlockDevice, RequestOptions } from '../block/device.js';
import type { Content } from './content.js';
import { decideDisk } from './disk.js';
import { ProbeReader } from './reader.js';
import { uuidText } from './text.js';

/** Bytes that are read at most: both copies of a GPT at each sector size, and the probes' few chunks. */
const budget = 16 << 20;
/** Their UUID is that of the whole of which the disk is a part: others have it too. */
const sharedUuid = new Set(['linux_raid_member', 'bcachefs']);

/**
 * "gpt:GUID", "mbr:1a2b3c4d" or "TYPE:UUID" ("ext4:…", "LVM2_member:…"); undefined where nothing on the disk says.
 * @throws BlockError where the device as a whole fails.
 */
export async function contentIdentity(device: BlockDevice, options: RequestOptions = {}): Promise<string | undefined> {
  const reader = ProbeReader.of(device, { ...options, budget });
  const { table, content } = await decideDisk(reader, device.info.blockSize);
  // Zero is what programs write that know no identifier.
  if (table && /[^0-]/.test(table.id)) return `${table.kind}:${table.id}`;
  const uuid = content && (await ownUuid(reader, content));
  return uuid && `${content.type}:${uuid}`;
}

async function ownUuid(reader: ProbeReader, { type, uuid }: Content): Promise<string | undefined> {
  if (sharedUuid.has(type)) return undefined;
  if (type !== 'btrfs') return uuid;
  // Several devices make one file system: struct btrfs_super_block, dev_item.uuid (Linux, uapi/linux/btrfs_tree.h).
  const own = await reader.bytes(65536 + 267, 16);
  return own && uuidText(own);
}
