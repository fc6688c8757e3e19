/**
 * ISO 9660 (ECMA-119) and UDF (ECMA-167): the volume descriptors from byte 32768 on identify both.
 */
import { content, type ContentProbe } from './content.js';
import { diskText } from './text.js';

/** Offset of the first volume descriptor, in bytes. */
const first = 32768;
/** Length of a sector, in bytes. */
const sector = 2048;
/** Most descriptors that are read. */
const maxDescriptors = 32;

/**
 * ISO 9660: label and, as the UUID (like blkid), the time of the last change, else of the creation.
 */
export const iso9660: ContentProbe = async (reader) => {
  const bytes = await reader.bytes(first, sector);
  if (!bytes || bytes[0] !== 1 || diskText(bytes.subarray(1, 6), 'latin1') !== 'CD001') return undefined;
  const uuid = [830, 813].map((at) => timeText(bytes.subarray(at, at + 16))).find((text) => text !== undefined);
  return content('filesystem', 'iso9660', diskText(bytes.subarray(40, 72)), uuid);
};

/** A time of 16 digits (ECMA-119 8.4.26.1); undefined if all digits are "0" (no time). */
function timeText(bytes: Uint8Array): string | undefined {
  const text = diskText(bytes, 'latin1');
  if (!/^\d{16}$/.test(text) || /^0+$/.test(text)) return undefined;
  return text.replace(/^(....)(..)(..)(..)(..)(..)(..)$/, '$1-$2-$3-$4-$5-$6-$7');
}

/** UDF: an NSR descriptor after a BEA01 in the volume recognition sequence (ECMA-167 2/8.3). */
export const udf: ContentProbe = async (reader) => {
  let begun = false;
  for (let index = 0; index < maxDescriptors; index++) {
    const bytes = await reader.bytes(first + index * sector, 8);
    const id = bytes && diskText(bytes.subarray(1, 6), 'latin1');
    if (id === 'BEA01') begun = true;
    else if (begun && (id === 'NSR02' || id === 'NSR03')) return content('filesystem', 'udf');
    else if (id !== 'CD001' && id !== 'BOOT2') return undefined;
  }
  return undefined;
};
