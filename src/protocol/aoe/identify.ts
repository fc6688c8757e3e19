/**
 * IDENTIFY DEVICE data ([ATA] 7.16): 256 little-endian words. Builds it for a target's device and
 * parses it for an initiator.
 */
import { AtaFeature, lba28Limit, sectorSize } from './spec.js';

/** The facts in IDENTIFY data that AoE uses. */
export interface DiskFacts {
  readonly sectors: number;
  /** [ATA] 7.16.7.5, 7.16.7.16: at most 40 and 20 printable characters. */
  readonly model: string;
  readonly serial: string;
  /** At most 8 printable characters. */
  readonly firmware: string;
  readonly removable: boolean;
  /** Size of a physical sector in bytes, at least 512. */
  readonly physicalSize: number;
  readonly rotational: boolean;
  /** FLUSH CACHE is supported. */
  readonly flush: boolean;
  /** The write cache is on: writes may be answered before they are durable. */
  readonly writeCache: boolean;
  /** WRITE DMA FUA EXT is supported. */
  readonly fua: boolean;
  readonly lba48: boolean;
  /** [ATA] 7.16.7.50: 16 hexadecimal digits; '' for a disk without one. */
  readonly worldWideName: string;
}

const Word = {
  general: 0,
  cylinders: 1,
  heads: 3,
  sectorsPerTrack: 6,
  serial: 10,
  firmware: 23,
  model: 27,
  multiple: 47,
  capabilities: 49,
  capabilities2: 50,
  valid: 53,
  lba28: 60,
  majorVersion: 80,
  supported: 82,
  supported2: 83,
  supported3: 84,
  enabled: 85,
  enabled2: 86,
  enabled3: 87,
  lba48: 100,
  physical: 106,
  worldWideName: 108,
  logicalSize: 117,
  rotation: 217,
  integrity: 255,
} as const;

const writeCacheBit = 1 << 5;
const lba48Bit = 1 << 10;
const flushBits = (1 << 12) | (1 << 13);
const fuaBit = 1 << 6;
const nameBit = 1 << 8;
/** [ATA] 7.16.7: some words are valid only if bit 14 is set and bit 15 is clear. */
const meant = 1 << 14;

/** Builds 512 bytes of IDENTIFY data. */
export function identifyData(facts: DiskFacts): Uint8Array {
  const data = new Uint8Array(sectorSize);
  const put = (word: number, value: number): void => {
    data[2 * word] = value;
    data[2 * word + 1] = value >>> 8;
  };
  const long = (word: number, value: number, words: number): void => {
    for (let rest = value, at = 0; at < words; at++, rest = Math.floor(rest / 65536)) put(word + at, rest % 65536);
  };
  const { sectors } = facts;
  put(Word.general, facts.removable ? 0x80 : 0x40);
  // CHS geometry, for programs from before LBA.
  put(Word.cylinders, Math.min(16383, Math.floor(sectors / (16 * 63))));
  put(Word.heads, 16);
  put(Word.sectorsPerTrack, 63);
  text(data, Word.serial, 20, facts.serial);
  text(data, Word.firmware, 8, facts.firmware);
  text(data, Word.model, 40, facts.model);
  put(Word.multiple, 0x8000);
  put(Word.capabilities, 0x0300);
  put(Word.capabilities2, meant);
  put(Word.valid, 0x0006);
  long(Word.lba28, Math.min(sectors, lba28Limit), 2);
  // Major versions ATA-4 to ATA8-ACS.
  put(Word.majorVersion, 0x01f0);
  const cache = facts.flush ? writeCacheBit : 0;
  const flush = facts.flush ? flushBits : 0;
  const fua = facts.fua ? fuaBit : 0;
  put(Word.supported, cache);
  put(Word.supported2, meant | lba48Bit | flush);
  const name = facts.worldWideName === '' ? 0 : nameBit;
  put(Word.supported3, meant | fua | name);
  put(Word.enabled, facts.writeCache ? cache : 0);
  put(Word.enabled2, lba48Bit | flush);
  put(Word.enabled3, meant | fua | name);
  long(Word.lba48, sectors, 4);
  const exponent = Math.round(Math.log2(facts.physicalSize / sectorSize));
  put(Word.physical, exponent > 0 ? meant | 0x2000 | exponent : meant);
  for (let at = 0; name !== 0 && at < 4; at++) {
    put(Word.worldWideName + at, Number.parseInt(facts.worldWideName.slice(4 * at, 4 * at + 4), 16));
  }
  put(Word.rotation, facts.rotational ? 0 : 1);
  data[2 * Word.integrity] = 0xa5;
  data[2 * Word.integrity + 1] = -data.reduce((sum, byte) => sum + byte, 0);
  return data;
}

/**
 * Parses 512 bytes of IDENTIFY data. Returns an error text if the disk cannot be used; other
 * nonsensical fields get safe values.
 */
export function parseIdentify(data: Uint8Array): DiskFacts | string {
  const word = (at: number): number => data[2 * at]! | (data[2 * at + 1]! << 8);
  const long = (at: number, words: number): number => {
    let value = 0;
    for (let index = words - 1; index >= 0; index--) value = value * 65536 + word(at + index);
    return value;
  };
  const lba48 = (word(Word.supported2) & lba48Bit) !== 0;
  const sectors = lba48 ? long(Word.lba48, 4) : long(Word.lba28, 2);
  if (!Number.isSafeInteger(sectors * sectorSize)) return `it says that it has ${sectors} sectors`;
  const physical = word(Word.physical);
  const told = (physical & 0xc000) === meant;
  // Bit 12: the logical sector size is in other words and is not 512 bytes. AoE messages cannot
  // carry such sectors.
  if (told && physical & 0x1000 && long(Word.logicalSize, 2) !== sectorSize / 2) {
    return 'its sectors are not 512 bytes: that is not supported';
  }
  const flush = (word(Word.supported2) & (1 << 12)) !== 0;
  return {
    sectors,
    model: textOf(data, Word.model, 40),
    serial: textOf(data, Word.serial, 20),
    firmware: textOf(data, Word.firmware, 8),
    removable: (word(Word.general) & 0x80) !== 0,
    physicalSize: told && physical & 0x2000 ? sectorSize << Math.min(physical & 0xf, 7) : sectorSize,
    rotational: word(Word.rotation) > 1,
    flush,
    writeCache: (word(Word.enabled) & writeCacheBit) !== 0,
    fua: flush && lba48 && (word(Word.supported3) & (0xc000 | fuaBit)) === (meant | fuaBit),
    lba48,
    worldWideName: nameOf(word),
  };
}

function nameOf(word: (at: number) => number): string {
  if ((word(Word.enabled3) & (0xc000 | nameBit)) !== (meant | nameBit)) return '';
  const digits = [0, 1, 2, 3]
    .map((at) =>
      word(Word.worldWideName + at)
        .toString(16)
        .padStart(4, '0'),
    )
    .join('');
  return /^0*$/.test(digits) ? '' : digits;
}

/**
 * For a subcommand of SET FEATURES: true if it turns the write cache on, false if off, undefined
 * for any other.
 */
export function cacheFeature(feature: number): boolean | undefined {
  if (feature === AtaFeature.enableWriteCache) return true;
  return feature === AtaFeature.disableWriteCache ? false : undefined;
}

/**
 * [ATA] 3.4.9: ATA string, two characters a word, the first in the upper byte, padded with spaces.
 */
function text(data: Uint8Array, word: number, length: number, value: string): void {
  const padded = value
    .replace(/[^\x20-\x7e]/g, '?')
    .padEnd(length)
    .slice(0, length);
  for (let index = 0; index < length; index++) data[2 * word + (index ^ 1)] = padded.charCodeAt(index);
}

function textOf(data: Uint8Array, word: number, length: number): string {
  let value = '';
  for (let index = 0; index < length; index++) value += String.fromCharCode(data[2 * word + (index ^ 1)]!);
  return value.replace(/[^\x20-\x7e]/g, ' ').trim();
}
