/**
 * Data that every SCSI unit with a removable medium returns: sense data, capacities, mode pages,
 * logical units (SPC-3, SBC-3).
 *
 * Not here: INQUIRY (scsi-inquiry.ts), what only a CD/DVD drive returns (mmc.ts).
 */
import type { SenseCode } from './scsi.js';

/** SPC-3 4.5.3: sense data in fixed format. */
export function fixedSense([key, asc, ascq]: SenseCode): Uint8Array {
  const data = new Uint8Array(18);
  data[0] = 0x70;
  data[2] = key;
  data[7] = data.length - 8;
  data[12] = asc;
  data[13] = ascq;
  return data;
}

/** SBC-3 5.12 READ CAPACITY (10). Too large a number of blocks is reported as the largest. */
export function capacity10(blocks: number, blockSize: number): Uint8Array {
  const data = new Uint8Array(8);
  const view = new DataView(data.buffer);
  view.setUint32(0, Math.min(0xffffffff, Math.max(0, blocks - 1)));
  view.setUint32(4, blockSize);
  return data;
}

/** SBC-3 5.13 READ CAPACITY (16). */
export function capacity16(blocks: number, blockSize: number): Uint8Array {
  const data = new Uint8Array(32);
  const view = new DataView(data.buffer);
  view.setBigUint64(0, BigInt(Math.max(0, blocks - 1)));
  view.setUint32(8, blockSize);
  return data;
}

/**
 * SPC-3 7.4.3 mode parameters: a header of 4 or 8 bytes with the device-specific parameter, no
 * block descriptors, and the pages.
 */
export function modeData(header: 4 | 8, parameter: number, pages: Uint8Array): Uint8Array {
  const data = new Uint8Array(header + pages.length);
  if (header === 4) data.set([data.length - 1, 0, parameter, 0]);
  else data.set([(data.length - 2) >> 8, data.length - 2, 0, parameter]);
  data.set(pages, header);
  return data;
}

/**
 * SPC-3 6.9.3: the mask of bits that MODE SELECT may change. It has the page headers, and no such
 * bits.
 */
export function unchangeable(pages: Uint8Array): Uint8Array {
  const mask = new Uint8Array(pages.length);
  for (let at = 0; at < pages.length; at += 2 + pages[at + 1]!) mask.set(pages.subarray(at, at + 2), at);
  return mask;
}

/** SPC-3 6.21 REPORT LUNS: a list with one logical unit, number 0. */
export const oneLun = Uint8Array.of(0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
