/**
 * IDENTIFY DEVICE data ([ATA] 7.16) of a disk on AoE: builds it for a target's device and parses it
 * for an initiator.
 */
import { hexOf } from '../../base/hex.js';
import { SetFeature, sectorSize } from '../../spec/ata.js';
import {
  Feature82,
  Feature83,
  Feature84,
  IdentifyPage,
  IdentifyWord,
  PhysicalSize,
  putGeometry,
  putNames,
  wordValid,
} from '../../spec/ata-identify.js';

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

const flushFeatures = Feature83.flush | Feature83.flushExt;

/** Builds 512 bytes of IDENTIFY data. */
export function identifyData(facts: DiskFacts): Uint8Array {
  const page = new IdentifyPage();
  putNames(page, facts);
  putGeometry(page, { ...facts, sectorSize });
  page.set(IdentifyWord.general, facts.removable ? 0x80 : 0x40);
  page.set(IdentifyWord.multipleLimit, 0x8000);
  page.set(IdentifyWord.capabilities, 0x0300); // LBA, DMA
  page.set(IdentifyWord.capabilities2, wordValid);
  page.set(IdentifyWord.valid, 0x0006);
  page.set(IdentifyWord.majorVersion, 0x01f0); // ATA-4 to ATA8-ACS
  const cache = facts.flush ? Feature82.writeCache : 0;
  page.set(IdentifyWord.supported, cache);
  page.set(IdentifyWord.enabled, facts.writeCache ? cache : 0);
  const second = Feature83.lba48 | (facts.flush ? flushFeatures : 0);
  page.set(IdentifyWord.supported2, wordValid | second);
  page.set(IdentifyWord.enabled2, second);
  const name = facts.worldWideName === '' ? 0 : Feature84.worldWideName;
  const third = wordValid | (facts.fua ? Feature84.fua : 0) | name;
  page.set(IdentifyWord.supported3, third);
  page.set(IdentifyWord.enabled3, third);
  page.setName(bytesOf(facts.worldWideName));
  return page.sealed();
}

/**
 * Parses 512 bytes of IDENTIFY data. Returns an error text if the disk cannot be used; other
 * nonsensical fields get safe values.
 */
export function parseIdentify(data: Uint8Array): DiskFacts | string {
  const page = new IdentifyPage(data);
  const second = page.get(IdentifyWord.supported2);
  const lba48 = (second & Feature83.lba48) !== 0;
  const sectors = lba48 ? page.getLong(IdentifyWord.lba48, 4) : page.getLong(IdentifyWord.lba28, 2);
  if (!Number.isSafeInteger(sectors * sectorSize)) return `it says that it has ${sectors} sectors`;
  const physical = page.get(IdentifyWord.physicalSize);
  const told = isValid(physical);
  // AoE messages cannot carry sectors of any other size.
  if (told && physical & PhysicalSize.longLogical && page.getLong(IdentifyWord.logicalSize, 2) !== sectorSize / 2) {
    return 'its sectors are not 512 bytes: that is not supported';
  }
  const exponent = told && physical & PhysicalSize.several ? physical & PhysicalSize.exponentMask : 0;
  const flush = (second & Feature83.flush) !== 0;
  const third = page.get(IdentifyWord.supported3);
  return {
    sectors,
    model: page.getText(IdentifyWord.model, 40),
    serial: page.getText(IdentifyWord.serial, 20),
    firmware: page.getText(IdentifyWord.firmware, 8),
    removable: (page.get(IdentifyWord.general) & 0x80) !== 0,
    physicalSize: sectorSize << Math.min(exponent, 7),
    rotational: page.get(IdentifyWord.rotation) > 1,
    flush,
    writeCache: (page.get(IdentifyWord.enabled) & Feature82.writeCache) !== 0,
    fua: flush && lba48 && isValid(third) && (third & Feature84.fua) !== 0,
    lba48,
    worldWideName: nameOf(page),
  };
}

/** True if the checksum of IDENTIFY data is there and right: the sum of its 512 bytes is 0. */
export function isWhole(data: Uint8Array): boolean {
  let sum = 0;
  for (let at = 0; at < sectorSize; at++) sum += data[at]!;
  return data[2 * IdentifyWord.integrity] === 0xa5 && (sum & 0xff) === 0;
}

/** [ATA] 7.16.7: true if a word that has the valid bits is valid. */
function isValid(word: number): boolean {
  return (word & 0xc000) === wordValid;
}

function nameOf(page: IdentifyPage): string {
  const third = page.get(IdentifyWord.enabled3);
  if (!isValid(third) || !(third & Feature84.worldWideName)) return '';
  const digits = hexOf(page.getName());
  return /^0*$/.test(digits) ? '' : digits;
}

/** The bytes of a name of 16 hexadecimal digits; none for ''. */
function bytesOf(name: string): Uint8Array {
  return Uint8Array.from(name.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

/**
 * For a subcommand of SET FEATURES: true if it turns the write cache on, false if off, undefined
 * for any other.
 */
export function cacheFeature(feature: number): boolean | undefined {
  if (feature === SetFeature.enableWriteCache) return true;
  return feature === SetFeature.disableWriteCache ? false : undefined;
}
