/**
 * The identity of a disk's content, independent of server and protocol: the identifier of its
 * partition table, or of its file system or volume. It changes when the disk is partitioned or
 * formatted. A clone has the same one.
 */
import type { BlockDevice, RequestOptions } from '../block/device.js';
import type { Content } from './content.js';
import { decideDisk } from './disk.js';
import { ProbeReader } from './reader.js';
import { uuidText } from './text.js';

/**
 * Most bytes that are read: both copies of a GPT at each sector size, and a few chunks for the
 * probes.
 */
const budget = 16 << 20;
/** Content whose UUID belongs to a whole of several disks, so that other disks have it too. */
const sharedUuid = new Set(['linux_raid_member', 'bcachefs']);

/**
 * The identity as text: "gpt:GUID", "mbr:1a2b3c4d" or "TYPE:UUID" ("ext4:…", "LVM2_member:…").
 * Undefined if the disk has no identifier.
 * @throws BlockError if the whole device fails
 */
export async function contentIdentity(device: BlockDevice, options: RequestOptions = {}): Promise<string | undefined> {
  const reader = ProbeReader.of(device, { ...options, budget });
  const { table, content } = await decideDisk(reader, device.info.blockSize);
  // Zero is not an identifier: programs that set none write zero.
  if (table && /[^0-]/.test(table.id)) return `${table.kind}:${table.id}`;
  const uuid = content && (await ownUuid(reader, content));
  return uuid && `${content.type}:${uuid}`;
}

async function ownUuid(reader: ProbeReader, { type, uuid }: Content): Promise<string | undefined> {
  if (sharedUuid.has(type)) return undefined;
  if (type !== 'btrfs') return uuid;
  // A btrfs file system may consist of several devices, and each has a UUID of its own:
  // dev_item.uuid in struct btrfs_super_block (Linux, uapi/linux/btrfs_tree.h).
  const own = await reader.bytes(65536 + 267, 16);
  return own && uuidText(own);
}
