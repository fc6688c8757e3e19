/**
 * Finds the identity of an open disk (block/identity.ts): the marks that its source gives, and
 * marks of its content: the identifier of the partition table or file system, and checksums of some
 * blocks.
 *
 * Not here: the comparison of identities (block/identity.ts) and its consequences (the callers).
 */
import { buffersOf } from '../base/buffers.js';
import { crc32 } from '../base/crc32.js';
import type { BlockDevice, RequestOptions } from '../block/device.js';
import { blockErrorOf } from '../block/errors.js';
import { markOf, type DiskIdentity, type DiskMarks } from '../block/identity.js';
import { contentIdentity } from './identity.js';

/** Number of samples: the first block, the last, and others evenly between them. */
const sampleCount = 16;
/** Length of a sample in bytes; at least one block. */
const sampleSize = 4096;

/**
 * Finds a disk's identity. Usually reads some hundred KiB, at most 17 MiB.
 * @throws BlockError if the whole device fails (unreachable, closed, aborted)
 */
export async function identifyDisk(device: BlockDevice, options: RequestOptions = {}): Promise<DiskIdentity> {
  const { size, marks = {} } = device.info;
  const [content, samples] = await Promise.all([contentIdentity(device, options), sample(device, options)]);
  return { size, marks: { ...marks, ...contentMarks(content), ...(samples !== '' && { samples }) } };
}

function contentMarks(content: string | undefined): DiskMarks {
  const value = markOf(content ?? '');
  if (value === undefined) return {};
  return /^(gpt|mbr):/.test(value) ? { table: value } : { filesystem: value };
}

async function sample(device: BlockDevice, options: RequestOptions): Promise<string> {
  const { size, blockSize } = device.info;
  const length = Math.max(sampleSize, blockSize);
  const whole = Math.floor(size / length);
  // Bytes at the end that do not fill a sample are not sampled; identities contain the size anyway.
  const count = Math.min(sampleCount, whole);
  const places = Array.from(
    { length: count },
    (_, i) => Math.floor((i * (whole - 1)) / Math.max(1, count - 1)) * length,
  );
  return (await Promise.all(places.map((offset) => checksum(device, offset, length, options)))).join('.');
}

async function checksum(device: BlockDevice, offset: number, length: number, options: RequestOptions): Promise<string> {
  const bytes = new Uint8Array(length);
  try {
    await device.read(offset, buffersOf(bytes), options);
  } catch (error) {
    // A bad sector is a property of the disk. Other errors concern the whole device.
    if (blockErrorOf(error).kind === 'io') return '-';
    throw error;
  }
  return crc32(bytes).toString(16);
}
