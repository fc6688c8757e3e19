/**
 * IDENTIFY DEVICE (ATA8-ACS 7.16) and IDENTIFY PACKET DEVICE (7.17) data: 256 words of 16 bits, and
 * the pages of a disk and of a packet device. ATA over Ethernet (protocol/aoe/identify.ts) and
 * v86's IDE drives use the same words.
 *
 * Words left at zero are not supported or not reported.
 */
import { lba28Limit, sectorSize } from './ata.js';
import { getAscii, putAscii } from './ascii.js';

/** 7.16.7: the words used. */
export const IdentifyWord = {
  general: 0,
  cylinders: 1,
  heads: 3,
  sectorsPerTrack: 6,
  serial: 10,
  firmware: 23,
  model: 27,
  multipleLimit: 47,
  trustedComputing: 48,
  capabilities: 49,
  capabilities2: 50,
  valid: 53,
  multiple: 59,
  lba28: 60,
  multiwordDma: 63,
  pioModes: 64,
  cycleTimes: 65,
  queueDepth: 75,
  sataCapabilities: 76,
  sataCapabilities2: 77,
  sataSupported: 78,
  sataEnabled: 79,
  majorVersion: 80,
  supported: 82,
  supported2: 83,
  supported3: 84,
  enabled: 85,
  enabled2: 86,
  enabled3: 87,
  udma: 88,
  lba48: 100,
  trimBlocks: 105,
  physicalSize: 106,
  worldWideName: 108,
  logicalSize: 117,
  supported4: 119,
  enabled4: 120,
  dataSetManagement: 169,
  alignment: 209,
  rotation: 217,
  transport: 222,
  integrity: 255,
} as const;

/** Features that the words `supported` and `enabled` (82 and 85) both report. */
export const Feature82 = {
  smart: 1 << 0,
  powerManagement: 1 << 3,
  packet: 1 << 4,
  writeCache: 1 << 5,
  lookAhead: 1 << 6,
  deviceReset: 1 << 9,
  nop: 1 << 14,
} as const;
/** Features of the words 83 and 86. */
export const Feature83 = { lba48: 1 << 10, flush: 1 << 12, flushExt: 1 << 13 } as const;
/** Features of the words 84 and 87. */
export const Feature84 = { smartErrorLog: 1 << 0, generalLog: 1 << 5, fua: 1 << 6, worldWideName: 1 << 8 } as const;
/** 7.16.7: some words are valid only if bit 14 is set and bit 15 is clear. */
export const wordValid = 1 << 14;
/** Word 106: bits 0 to 3 are valid; word 117 is valid. */
export const PhysicalSize = { several: 1 << 13, longLogical: 1 << 12, exponentMask: 0xf } as const;

const Word = IdentifyWord;

/** A page of IDENTIFY data: reads and writes its little-endian words in place. */
export class IdentifyPage {
  readonly data: Uint8Array;
  readonly #view: DataView;

  /** @param data 512 bytes; default: all zero. */
  constructor(data: Uint8Array = new Uint8Array(sectorSize)) {
    this.data = data;
    this.#view = new DataView(data.buffer, data.byteOffset);
  }

  get(word: number): number {
    return this.#view.getUint16(2 * word, true);
  }

  set(word: number, value: number): void {
    this.#view.setUint16(2 * word, value, true);
  }

  /** Sets bits of a word and keeps the others. */
  add(word: number, bits: number): void {
    this.set(word, this.get(word) | bits);
  }

  /** A number in `words` words, the lowest first. */
  getLong(word: number, words: number): number {
    let value = 0;
    for (let at = words - 1; at >= 0; at--) value = value * 0x10000 + this.get(word + at);
    return value;
  }

  setLong(word: number, value: number, words: number): void {
    for (let rest = value, at = 0; at < words; at++, rest = Math.floor(rest / 0x10000)) this.set(word + at, rest);
  }

  /** An ATA string (3.4.9): of each two characters, the first is the high byte of the word. */
  getText(word: number, length: number): string {
    return getAscii(swapped(this.data.subarray(2 * word, 2 * word + length)));
  }

  setText(word: number, length: number, text: string): void {
    const bytes = new Uint8Array(length);
    putAscii(bytes, 0, length, text);
    this.data.set(swapped(bytes), 2 * word);
  }

  /** A world wide name of 8 bytes: its most significant 16 bits are in the first word. */
  getName(): Uint8Array {
    return swapped(this.data.subarray(2 * Word.worldWideName, 2 * Word.worldWideName + 8));
  }

  setName(name: Uint8Array): void {
    this.data.set(swapped(name.subarray(0, 8)), 2 * Word.worldWideName);
  }

  /** Adds the signature and the checksum in word 255. */
  sealed(): Uint8Array {
    this.data[2 * Word.integrity] = 0xa5;
    this.data[2 * Word.integrity + 1] = checksum(this.data);
    return this.data;
  }
}

/** Swaps the bytes of each word. */
function swapped(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes, (_, i) => bytes[i ^ 1] ?? 0);
}

/** The names that a drive reports. */
export interface AtaIdentity {
  /** Up to 20 ASCII characters. */
  readonly serial: string;
  /** Up to 40 ASCII characters. */
  readonly model: string;
  /** Up to 8 ASCII characters. */
  readonly firmware: string;
  /** 8 bytes; the first 4 bits are the NAA (ATA8-ACS 7.16.7.54). */
  readonly worldWideName: Uint8Array;
}

/** The size of a disk and of its sectors. */
export interface Geometry {
  /** Number of logical sectors. */
  readonly sectors: number;
  /** Bytes of a logical sector and of a physical sector, which is the best unit of a write. */
  readonly sectorSize: number;
  readonly physicalSize: number;
  readonly rotational: boolean;
}

export interface DiskFacts extends Geometry {
  readonly volatileCache: boolean;
  readonly trim: boolean;
}

/** The settings that SET FEATURES, SET MULTIPLE MODE and SMART change. */
export interface AtaSettings {
  writeCache: boolean;
  lookAhead: boolean;
  smart: boolean;
  senseReporting: boolean;
  /** Sectors of a DRQ block of READ MULTIPLE and WRITE MULTIPLE; 0 if not set. */
  multiple: number;
  /** Selected Ultra DMA mode; -1 if another mode is selected. */
  udma: number;
}

/** The limits of a disk that it reports. */
export interface DiskLimits {
  /** Largest count of SET MULTIPLE MODE, in sectors. */
  readonly multiple: number;
  /** Largest number of queued commands in flight. */
  readonly queueDepth: number;
  /** Largest number of 512-byte blocks of range entries in one DATA SET MANAGEMENT. */
  readonly trimBlocks: number;
}

/** Writes the names, but not the world wide name. */
export function putNames(page: IdentifyPage, { serial, firmware, model }: Omit<AtaIdentity, 'worldWideName'>): void {
  page.setText(Word.serial, 20, serial);
  page.setText(Word.firmware, 8, firmware);
  page.setText(Word.model, 40, model);
}

/** Writes the words about the size of a disk, which every disk has. */
export function putGeometry(page: IdentifyPage, { sectors, sectorSize, physicalSize, rotational }: Geometry): void {
  // Cylinders, heads and sectors a track, for programs from before LBA.
  page.set(Word.cylinders, Math.max(1, Math.min(16383, Math.floor(sectors / (16 * 63)))));
  page.set(Word.heads, 16);
  page.set(Word.sectorsPerTrack, 63);
  page.setLong(Word.lba28, Math.min(sectors, lba28Limit), 2);
  page.setLong(Word.lba48, sectors, 4);
  const exponent = Math.max(0, Math.min(15, Math.floor(Math.log2(physicalSize / sectorSize))));
  const long = sectorSize > 512 ? PhysicalSize.longLogical : 0;
  page.set(Word.physicalSize, wordValid | (exponent > 0 ? PhysicalSize.several | exponent : 0) | long);
  if (long) page.setLong(Word.logicalSize, sectorSize / 2, 2);
  page.set(Word.rotation, rotational ? 0 : 1); // 1: the medium does not rotate
}

/** IDENTIFY DEVICE data of a Serial ATA disk, 512 bytes. */
export function identifyDisk(
  identity: AtaIdentity,
  facts: DiskFacts,
  settings: AtaSettings,
  limits: DiskLimits,
): Uint8Array {
  const page = new IdentifyPage();
  putTransport(page, identity, settings.udma);
  putGeometry(page, facts);
  page.set(Word.general, 0x0040);
  page.set(Word.multipleLimit, 0x8000 | limits.multiple);
  page.set(Word.trustedComputing, wordValid);
  page.set(Word.capabilities, 0x2f00); // standby timer, IORDY, LBA, DMA
  page.set(Word.capabilities2, wordValid);
  page.set(Word.multiple, settings.multiple > 0 ? 0x0100 | settings.multiple : 0);
  page.set(Word.queueDepth, limits.queueDepth - 1);
  page.set(Word.sataCapabilities, 0x010e); // queued commands; generations 1 to 3
  const cache = facts.volatileCache ? Feature82.writeCache : 0;
  const always = Feature82.nop | Feature82.powerManagement;
  page.set(Word.supported, always | Feature82.lookAhead | cache | Feature82.smart);
  page.set(
    Word.enabled,
    always |
      (settings.lookAhead ? Feature82.lookAhead : 0) |
      (settings.writeCache ? cache : 0) |
      (settings.smart ? Feature82.smart : 0),
  );
  const flushes = Feature83.lba48 | Feature83.flush | Feature83.flushExt;
  page.set(Word.supported2, wordValid | flushes);
  page.set(Word.enabled2, 0x8000 | flushes); // words 119 and 120 are valid
  const third = Feature84.worldWideName | Feature84.fua | Feature84.generalLog | Feature84.smartErrorLog;
  page.set(Word.supported3, wordValid | third);
  page.set(Word.enabled3, wordValid | third);
  page.set(Word.trimBlocks, facts.trim ? limits.trimBlocks : 0);
  page.set(Word.supported4, wordValid | (1 << 6)); // ACS-3: sense data reporting
  page.set(Word.enabled4, wordValid | (settings.senseReporting ? 1 << 6 : 0));
  page.set(Word.dataSetManagement, facts.trim ? 1 : 0);
  page.set(Word.alignment, wordValid); // logical sector 0 begins a physical sector
  return page.sealed();
}

export interface PacketFacts {
  /** SPC peripheral device type: 0 direct access, 5 CD/DVD. */
  readonly deviceType: number;
  /** Bytes of a packet: 12 or 16. */
  readonly packetSize: 12 | 16;
  readonly notification: boolean;
}

/** IDENTIFY PACKET DEVICE data, 512 bytes. */
export function identifyPacket(identity: AtaIdentity, facts: PacketFacts, udma: number): Uint8Array {
  const page = new IdentifyPage();
  putTransport(page, identity, udma);
  // Packet device, type, removable, DRQ within 50 µs, packet size.
  page.set(Word.general, 0x8000 | (facts.deviceType << 8) | (1 << 7) | (2 << 5) | (facts.packetSize === 16 ? 1 : 0));
  page.set(Word.capabilities, 0x0f00);
  page.set(Word.capabilities2, wordValid);
  page.set(Word.sataCapabilities, 0x000e);
  page.set(Word.sataSupported, 1 << 5); // asynchronous notification
  page.set(Word.sataEnabled, facts.notification ? 1 << 5 : 0);
  const features = Feature82.nop | Feature82.deviceReset | Feature82.packet | Feature82.powerManagement;
  page.set(Word.supported, features);
  page.set(Word.supported2, wordValid);
  page.set(Word.supported3, wordValid | Feature84.worldWideName);
  page.set(Word.enabled, features);
  page.set(Word.enabled3, wordValid | Feature84.worldWideName);
  return page.sealed();
}

/** The words of every Serial ATA device: names, transfer modes, versions. */
function putTransport(page: IdentifyPage, identity: AtaIdentity, udma: number): void {
  putNames(page, identity);
  page.setName(identity.worldWideName);
  page.set(Word.valid, 0x0006); // words 64 to 70 and 88 are valid
  page.set(Word.multiwordDma, 0x0007); // modes 0 to 2
  page.set(Word.pioModes, 0x0003); // PIO 3, 4
  for (let at = 0; at < 4; at++) page.set(Word.cycleTimes + at, 120); // ns
  page.set(Word.sataCapabilities2, 3 << 1); // the link runs at generation 3
  page.set(Word.majorVersion, 0x07f0); // ATA/ATAPI-4 to ACS-3
  page.set(Word.udma, 0x007f | (udma >= 0 ? 0x100 << udma : 0));
  page.set(Word.transport, 0x103f); // serial, up to SATA 3.0
}

/**
 * SET FEATURES 03h (7.47.4): the transfer mode in the count field.
 * @returns the Ultra DMA mode; -1 for another known mode; undefined for an unknown mode
 */
export function transferMode(count: number): number | undefined {
  const mode = count & 7;
  switch (count >> 3) {
    case 0: // PIO default
    case 1: // PIO with flow control
    case 4: // multiword DMA
      return -1;
    case 8:
      return mode <= 6 ? mode : undefined;
    default:
      return undefined;
  }
}

/** The value of the last byte that makes the sum of all 512 bytes zero modulo 256. */
export function checksum(page: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < 511; i++) sum += page[i]!;
  return -sum & 0xff;
}
