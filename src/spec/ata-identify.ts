/**
 * IDENTIFY DEVICE (ATA8-ACS 7.16) and IDENTIFY PACKET DEVICE (7.17) data: 256 words of 16 bits.
 * Words are named by their number, as in the standard.
 *
 * Words left at zero are not supported or not reported.
 */
import { SetFeature, dsmMaxBlocks, queueDepth } from './ata.js';

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

export interface DiskFacts {
  /** Number of logical sectors. */
  readonly sectors: number;
  /** Bytes of a logical sector and of a physical sector, which is the best unit of a write. */
  readonly sectorSize: number;
  readonly physicalSize: number;
  readonly volatileCache: boolean;
  readonly trim: boolean;
  readonly rotational: boolean;
}

export const defaultSettings: Readonly<AtaSettings> = {
  writeCache: true,
  lookAhead: true,
  smart: true,
  senseReporting: false,
  multiple: 0,
  udma: 6,
};

/** Largest count of SET MULTIPLE MODE, in sectors. */
export const maxMultiple = 16;

/** IDENTIFY DEVICE data of a disk, 512 bytes. */
export function identifyDisk(identity: AtaIdentity, facts: DiskFacts, settings: AtaSettings): Uint8Array {
  const words = new Words();
  common(words, identity, settings.udma);
  words.set(0, 0x0040);
  // cylinders, heads, sectors: obsolete; these values are customary from 8 GB on
  words.set(1, 16383);
  words.set(3, 16);
  words.set(6, 63);
  words.set(47, 0x8000 | maxMultiple);
  words.set(48, 0x4000);
  words.set(49, 0x2f00); // standby timer, IORDY, LBA, DMA
  words.set(50, 0x4000);
  words.set(59, settings.multiple > 0 ? 0x0100 | settings.multiple : 0);
  words.dword(60, Math.min(facts.sectors, 0x0fffffff));
  words.set(75, queueDepth - 1);
  words.set(76, 0x010e); // queued commands; generations 1 to 3
  const cache = facts.volatileCache ? 1 << 5 : 0;
  // NOP, look-ahead, write cache, power management, SMART
  words.set(82, 0x4000 | (1 << 6) | cache | (1 << 3) | 1);
  words.set(83, 0x7400); // flush cache (ext), 48-bit addresses
  // world wide name, write FUA, general logs, SMART error log
  words.set(84, 0x4000 | (1 << 8) | (1 << 6) | (1 << 5) | 1);
  const enabled = (settings.lookAhead ? 1 << 6 : 0) | (settings.writeCache ? cache : 0) | (settings.smart ? 1 : 0);
  words.set(85, 0x4000 | (1 << 3) | enabled);
  words.set(86, 0xb400); // like word 83; words 119 and 120 are valid
  words.set(87, 0x4000 | (1 << 8) | (1 << 6) | (1 << 5) | 1);
  words.qword(100, facts.sectors);
  words.set(105, facts.trim ? dsmMaxBlocks : 0);
  words.set(106, sectorSizes(facts));
  words.name(108, identity.worldWideName);
  if (facts.sectorSize > 512) words.dword(117, facts.sectorSize / 2);
  words.set(119, 0x4040); // ACS-3: sense data reporting
  words.set(120, 0x4000 | (settings.senseReporting ? 1 << 6 : 0));
  words.set(169, facts.trim ? 1 : 0);
  words.set(209, 0x4000); // the first logical sector is also the first of a physical sector
  words.set(217, facts.rotational ? 0 : 1); // 1: the medium does not rotate
  return words.sealed();
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
  const words = new Words();
  common(words, identity, udma);
  // Packet device, type, removable, DRQ within 50 µs, packet size.
  words.set(0, 0x8000 | (facts.deviceType << 8) | (1 << 7) | (2 << 5) | (facts.packetSize === 16 ? 1 : 0));
  words.set(49, 0x0f00);
  words.set(50, 0x4000);
  words.set(76, 0x000e);
  words.set(78, 1 << 5); // asynchronous notification
  words.set(79, facts.notification ? 1 << 5 : 0);
  // NOP, DEVICE RESET, packet, power management
  words.set(82, 0x4000 | (1 << 9) | (1 << 4) | (1 << 3));
  words.set(83, 0x4000);
  words.set(84, 0x4000 | (1 << 8));
  words.set(85, 0x4000 | (1 << 9) | (1 << 4) | (1 << 3));
  words.set(87, 0x4000 | (1 << 8));
  words.name(108, identity.worldWideName);
  return words.sealed();
}

/**
 * SET FEATURES 03h: the transfer mode in the count field.
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

/** SET FEATURES subcommands that are accepted without effect, because old systems send them. */
export const acceptedFeatures: ReadonlySet<number> = new Set([
  SetFeature.disableRevert,
  SetFeature.enableRevert,
  SetFeature.disableApm,
]);

function common(words: Words, identity: AtaIdentity, udma: number): void {
  words.text(10, 10, identity.serial);
  words.text(23, 4, identity.firmware);
  words.text(27, 20, identity.model);
  words.set(53, 0x0006); // words 64 to 70 and 88 are valid
  words.set(63, 0x0007); // multiword DMA 0 to 2
  words.set(64, 0x0003); // PIO 3, 4
  for (const word of [65, 66, 67, 68]) words.set(word, 120); // cycle time in ns
  words.set(77, 3 << 1); // the link runs at generation 3
  words.set(80, 0x07f0); // ATA/ATAPI-4 to ACS-3
  words.set(88, 0x007f | (udma >= 0 ? 0x100 << udma : 0));
  words.set(222, 0x103f); // serial, up to SATA 3.0
}

/** Word 106: logical and physical sector size. */
function sectorSizes({ sectorSize, physicalSize }: DiskFacts): number {
  const ratio = Math.max(0, Math.min(15, Math.floor(Math.log2(physicalSize / sectorSize))));
  return 0x4000 | (ratio > 0 ? 0x2000 | ratio : 0) | (sectorSize > 512 ? 0x1000 : 0);
}

class Words {
  readonly #data = new Uint8Array(512);
  readonly #view = new DataView(this.#data.buffer);

  set(word: number, value: number): void {
    this.#view.setUint16(word * 2, value, true);
  }

  dword(word: number, value: number): void {
    this.#view.setUint32(word * 2, value, true);
  }

  qword(word: number, value: number): void {
    this.#view.setBigUint64(word * 2, BigInt(value), true);
  }

  /**
   * ATA strings (ATA8-ACS 3.3.10): of each two characters, the first is the high byte of the word.
   */
  text(word: number, length: number, text: string): void {
    for (let i = 0; i < length * 2; i++) {
      const code = text.charCodeAt(i);
      this.#data[(word * 2 + i) ^ 1] = code >= 0x20 && code <= 0x7e ? code : 0x20;
    }
  }

  /** A world wide name: its most significant 16 bits are in the first word. */
  name(word: number, name: Uint8Array): void {
    for (let i = 0; i < 8; i++) this.#data[(word * 2 + i) ^ 1] = name[i] ?? 0;
  }

  /** Adds the signature and the checksum in word 255. */
  sealed(): Uint8Array {
    this.#data[510] = 0xa5;
    this.#data[511] = checksum(this.#data);
    return this.#data;
  }
}

/** The value of the last byte that makes the sum of all 512 bytes zero modulo 256. */
export function checksum(page: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < 511; i++) sum += page[i]!;
  return -sum & 0xff;
}
