/** Disks made of bytes, for the tests of the probe. */
import { crc32 } from '../../src/base/crc32.js';
import { MemoryDevice } from '../../src/storage/memory.js';

export interface MbrEntry {
  readonly type: number;
  readonly start: number;
  readonly count: number;
  readonly flag?: number;
}

/** Writes a boot record with up to four entries into sector `sector`. */
export function putMbr(disk: Uint8Array, sector: number, entries: readonly MbrEntry[]): void {
  const view = new DataView(disk.buffer, sector * 512, 512);
  view.setUint16(510, 0xaa55, true);
  for (const [index, { type, start, count, flag = 0 }] of entries.entries()) {
    const at = 446 + index * 16;
    view.setUint8(at, flag);
    view.setUint8(at + 4, type);
    view.setUint32(at + 8, start, true);
    view.setUint32(at + 12, count, true);
  }
}

/** A device with these bytes. */
export function diskOf(bytes: Uint8Array): MemoryDevice {
  return new MemoryDevice(bytes);
}

/** Recomputes the checksums of a GPT header at `at` after a change in it or in its entries. */
export function sealGpt(disk: Uint8Array, at: number, sectorSize = 512): void {
  const view = new DataView(disk.buffer);
  const entries = Number(view.getBigUint64(at + 72, true)) * sectorSize;
  const length = view.getUint32(at + 80, true) * view.getUint32(at + 84, true);
  if (entries + length <= disk.length) view.setUint32(at + 88, crc32(disk.subarray(entries, entries + length)), true);
  view.setUint32(at + 16, 0, true);
  view.setUint32(at + 16, crc32(disk.subarray(at, at + Math.min(512, view.getUint32(at + 12, true)))), true);
}

/** A disk with a GPT that has one Linux partition and no backup. */
export function gptDisk(sectors = 256): Uint8Array {
  const disk = new Uint8Array(sectors * 512);
  putMbr(disk, 0, [{ type: 0xee, start: 1, count: sectors - 1 }]);
  const view = new DataView(disk.buffer);
  new TextEncoder().encodeInto('EFI PART', disk.subarray(512));
  view.setUint32(512 + 8, 0x10000, true);
  view.setUint32(512 + 12, 92, true);
  view.setBigUint64(512 + 24, 1n, true);
  view.setBigUint64(512 + 32, BigInt(sectors - 1), true);
  view.setBigUint64(512 + 72, 2n, true);
  view.setUint32(512 + 80, 128, true);
  view.setUint32(512 + 84, 128, true);
  disk.fill(7, 512 + 56, 512 + 72);
  disk.fill(9, 1024, 1024 + 32);
  view.setBigUint64(1024 + 32, 40n, true);
  view.setBigUint64(1024 + 40, 99n, true);
  sealGpt(disk, 512);
  return disk;
}
