/** Numbers of ATA8-ACS and of "Programming Interface for Bus Master IDE Controller" 1.0 ([BMI]), as far as far disks need them. */

export const sectorSize = 512;

/** Status register (ATA8-ACS 6.2). */
export const IdeStatus = { busy: 0x80, ready: 0x40, fault: 0x20, seek: 0x10, error: 0x01 } as const;
/** Error register (ATA8-ACS 6.3). */
export const IdeError = { uncorrectable: 0x40, notFound: 0x10, aborted: 0x04 } as const;
/** [BMI] 2.1 command register and 2.2 status register. */
export const BusMaster = { start: 1, active: 1, error: 2 } as const;

export const IdeCommand = {
  deviceReset: 0x08,
  verify: 0x40,
  verifyExt: 0x42,
  diagnostic: 0x90,
  readMultiple: 0xc4,
  readMultipleExt: 0x29,
  writeMultiple: 0xc5,
  writeMultipleExt: 0x39,
  setMultiple: 0xc6,
  standbyImmediate: 0xe0,
  flush: 0xe7,
  flushExt: 0xea,
  setFeatures: 0xef,
} as const;
export const IdeFeature = { enableWriteCache: 0x02, disableWriteCache: 0x82 } as const;

/** Commands that name sectors, by what they do with them. */
export const readCommands: ReadonlySet<number> = new Set([0x20, 0x24, 0x25, 0x29, 0xc4, 0xc8, 0x40, 0x42]);
export const writeCommands: ReadonlySet<number> = new Set([0x30, 0x34, 0x35, 0x39, 0xc5, 0xca]);
/** Those of them that take the data of a write at the data port. */
export const pioWriteCommands: ReadonlySet<number> = new Set([0x30, 0x34, 0x39, 0xc5]);
/** Those with 48-bit addresses. */
export const wideCommands: ReadonlySet<number> = new Set([0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x42]);
export const multipleCommands: ReadonlySet<number> = new Set([0xc4, 0x29, 0xc5, 0x39]);
/** Sectors that a multiple command may move at a time: a power of two up to this (word 47 of IDENTIFY DEVICE). */
export const maxMultiple = 128;
