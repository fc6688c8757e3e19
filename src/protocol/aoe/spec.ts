/**
 * The numbers of ATA over Ethernet, protocol version 1. Source: "AoE (ATA over Ethernet)", AoEr11, February 2009
 * ("[AoE] section"); those of ATA from ATA8-ACS ("[ATA] section"). Network byte order, but for the LBA. Offsets are in
 * bytes from the start of the frame, Ethernet's header included.
 */

/** [AoE] 2.1: the registered Ethernet type. */
export const AOE_TYPE = 0x88a2;
/** [AoE] 2.2. */
export const AOE_VERSION = 1;

/** [AoE] 2: the header that every message has. */
export const Header = {
  /** Two bytes, as in every Ethernet frame. */
  type: 12,
  /** Version in the high half, {@link Flag}s in the low one. */
  versionFlags: 14,
  /** {@link AoeError}, where the flag is set. */
  error: 15,
  /** Major address, 2 bytes. */
  shelf: 16,
  /** Minor address. */
  slot: 18,
  command: 19,
  /** 4 bytes: of the initiator's choice, repeated in the response. */
  tag: 20,
  /** The argument begins here. */
  size: 24,
} as const;

/** [AoE] 2.2. The others are reserved. */
export const Flag = { response: 0x8, error: 0x4 } as const;

/** [AoE] 2.3. */
export const AoeError = {
  unknownCommand: 1,
  badArgument: 2,
  unavailable: 3,
  configPresent: 4,
  badVersion: 5,
  reserved: 6,
} as const;

/** [AoE] 2.4: addresses that mean every shelf, every slot. */
export const anyShelf = 0xffff;
export const anySlot = 0xff;

/** [AoE] 2.5. From 0xf0 on they are each vendor's own; ours is described in session.ts. */
export const AoeCommand = { ata: 0, config: 1, mask: 2, reserve: 3, session: 0xfa } as const;

/** [AoE] 3.1: command 0. */
export const AtaArgument = {
  /** {@link AtaFlag}s. */
  flags: 24,
  /** Feature in a request, error register in a response. */
  feature: 25,
  /** Sectors to transfer in a request; [ATA] the count register in a response. */
  count: 26,
  /** Command in a request, status register in a response. */
  command: 27,
  /** 6 bytes, the lowest first. */
  lba: 28,
  /** 2 bytes, zero; in a session of ours its generation. */
  reserved: 34,
  /** The data begin here. */
  size: 36,
} as const;

/** [AoE] 3.1: E, D, A, W. */
export const AtaFlag = { extended: 0x40, device: 0x10, asynchronous: 0x02, write: 0x01 } as const;

/** [AoE] 3.2: command 1. */
export const ConfigArgument = {
  /** Messages that the target can hold, 2 bytes. */
  bufferCount: 24,
  /** 2 bytes. */
  firmware: 26,
  /** Most sectors of one message; 0 means 2. */
  sectors: 28,
  /** Version in the high half, {@link ConfigCommand} in the low one. */
  versionCommand: 29,
  /** 2 bytes. */
  length: 30,
  /** The string begins here. */
  size: 32,
} as const;

/** [AoE] 3.2. */
export const ConfigCommand = { read: 0, test: 1, prefix: 2, set: 3, force: 4 } as const;
/** [AoE] 3.2: the config string's longest, in bytes. */
export const maxConfig = 1024;

/** [AoE] 3.3: command 2. Directives follow, each {@link maskDirectiveSize} bytes: reserved, directive, address. */
export const MaskArgument = { command: 25, error: 26, count: 27, size: 28 } as const;
export const maskDirectiveSize = 8;
export const MaskCommand = { read: 0, edit: 1 } as const;
export const MaskDirective = { none: 0, add: 1, remove: 2 } as const;
export const MaskError = { unspecified: 1, badDirective: 2, full: 3 } as const;

/** [AoE] 3.4: command 3. Addresses of 6 bytes follow. */
export const ReserveArgument = { command: 24, count: 25, size: 26 } as const;
export const ReserveCommand = { read: 0, set: 1, force: 2 } as const;

/** [AoE] 3.1: a sector, in bytes. */
export const sectorSize = 512;
/** What a message with data has besides the data and Ethernet's own header, in bytes of the MTU. */
export const ataOverhead = AtaArgument.size - 14;

/** Sectors that a message carries on a segment of `mtu`: the count has 8 bits. */
export function sectorsOf(mtu: number): number {
  return Math.min(255, Math.floor((mtu - ataOverhead) / sectorSize));
}

/** [ATA] 7: commands. Those by DMA differ from the others in nothing that is seen here. */
export const AtaCommand = {
  readSectors: 0x20,
  readSectorsExt: 0x24,
  readDmaExt: 0x25,
  readDma: 0xc8,
  writeSectors: 0x30,
  writeSectorsExt: 0x34,
  writeDmaExt: 0x35,
  writeDmaFuaExt: 0x3d,
  writeDma: 0xca,
  checkPowerMode: 0xe5,
  flush: 0xe7,
  flushExt: 0xea,
  identify: 0xec,
  setFeatures: 0xef,
} as const;

/** [ATA] 7.48.2: subcommands of SET FEATURES. */
export const AtaFeature = { enableWriteCache: 0x02, disableWriteCache: 0x82 } as const;

/** [ATA] 6.2: the error register. `writeProtected` and `uncorrectable` are the same bit, of writes and of reads. */
export const AtaErrorBit = { abort: 0x04, idNotFound: 0x10, uncorrectable: 0x40, writeProtected: 0x40 } as const;

/** [ATA] 6.3: the status register. */
export const AtaStatus = { error: 0x01, fault: 0x20, ready: 0x40 } as const;

/** [ATA] 4.2: addresses of 28 bits end here, in sectors. */
export const lba28Limit = 2 ** 28 - 1;
/** [ATA] 4.2: likewise of 48 bits. */
export const lba48Limit = 2 ** 48;
