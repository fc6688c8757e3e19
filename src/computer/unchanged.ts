/**
 * A witness of a drive's content: checksums of some of its places, which a snapshot keeps. A guest
 * that continues has file systems in its memory as they were then; on a disk that was written since
 * it would destroy them.
 *
 * The places are those which a mount or a write changes: the start of the disk and of each
 * partition, the end, where the guest has written last and what follows (journals and logs go on
 * there), and random blocks. So a file system that was mounted or used since is noticed; single
 * blocks that another program writes elsewhere may not be.
 *
 * Not here: is it the same disk (same-drive.ts).
 */
import { buffersOf } from '../base/buffers.js';
import { crc32 } from '../base/crc32.js';
import type { BlockDevice, BlockInfo, RequestOptions } from '../block/device.js';
import { blockErrorOf } from '../block/errors.js';
import type { SavedContent } from '../machine/snapshot.js';
import { decideDisk } from '../probe/disk.js';
import { ProbeReader } from '../probe/reader.js';

/** Offset and length of a place, in bytes. */
type Place = readonly [offset: number, length: number];

/** Places begin at multiples of this, or of longer blocks of the disk. */
const usualUnit = 4096;
/** Bytes at the start of the disk. */
const startSize = 1 << 20;
/** Bytes at the start of a partition: the superblock, and the group descriptors of ext4. */
const partitionSize = 128 << 10;
/** Most partitions that are looked at. */
const maxPartitions = 24;
/** Bytes at the end of the disk. */
const endSize = 64 << 10;
/** Bytes from the last block of a recent write. */
const recentSize = 36 << 10;
/** Number of random blocks: one in each of as many equal parts of the disk. */
const randomCount = 32;
/** Most bytes that are read to find the partitions. */
const tableBudget = 16 << 20;

/**
 * Reads the witness of a disk: one to some MiB, mostly in parallel.
 * @param recent where the guest has written last (recent-writes.ts)
 * @throws BlockError if the whole device fails
 */
export async function witnessOf(
  device: BlockDevice,
  recent: readonly number[],
  options: RequestOptions,
): Promise<SavedContent> {
  const places = placesOf(device.info, recent, await partitionStarts(device, options));
  const sums = await Promise.all(places.map((place) => sumOf(device, place, options)));
  // A place that cannot be read is left out: it is unreadable the next time, too.
  const found = places.flatMap(([offset, length], i) => (sums[i] === undefined ? [] : [[offset, length, sums[i]] as const])); // prettier-ignore
  return { places: found, recent };
}

/**
 * True if each place has the content that it had.
 * @throws BlockError if a place cannot be read
 */
export async function isUnchanged(
  device: BlockDevice,
  { places }: SavedContent,
  options: RequestOptions,
): Promise<boolean> {
  const sums = await Promise.all(places.map(([offset, length]) => readSum(device, [offset, length], options)));
  return places.every(([, , sum], i) => sums[i] === sum);
}

function placesOf({ size, blockSize }: BlockInfo, recent: readonly number[], partitions: readonly number[]): Place[] {
  const unit = Math.max(usualUnit, blockSize);
  const random = Array.from({ length: randomCount }, (_, i) => ((i + Math.random()) * size) / randomCount);
  const wanted: Place[] = [
    [0, startSize],
    [size - endSize, endSize],
    ...partitions.slice(0, maxPartitions).map((start): Place => [start, partitionSize]),
    ...recent.map((end): Place => [end - 1, recentSize]),
    ...random.filter((offset) => offset >= startSize).map((offset): Place => [offset, unit]),
  ];
  return wanted.flatMap(([from, length]): Place[] => {
    const offset = Math.floor(Math.max(0, from) / unit) * unit;
    const whole = Math.ceil(length / unit) * unit;
    return offset < size ? [[offset, Math.min(whole, size - offset)]] : [];
  });
}

async function partitionStarts(device: BlockDevice, options: RequestOptions): Promise<number[]> {
  const reader = ProbeReader.of(device, { ...options, budget: tableBudget });
  const { table } = await decideDisk(reader, device.info.blockSize);
  return (table?.partitions ?? []).filter(({ extended }) => !extended).map(({ start }) => start);
}

/** The checksum of a place; undefined if it has a bad sector. */
async function sumOf(device: BlockDevice, place: Place, options: RequestOptions): Promise<number | undefined> {
  try {
    return await readSum(device, place, options);
  } catch (error) {
    if (blockErrorOf(error).kind === 'io') return undefined;
    throw error;
  }
}

async function readSum(device: BlockDevice, [offset, length]: Place, options: RequestOptions): Promise<number> {
  const bytes = new Uint8Array(length);
  await device.read(offset, buffersOf(bytes), options);
  return crc32(bytes);
}
