/**
 * The numbers of ATA8-ACS and of "Programming Interface for Bus Master IDE Controller" 1.0 ([BMI])
 * that remote disks on the engine's IDE controller need.
 */

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

/** Commands that address sectors: those that read (or verify) and those that write. */
export const readCommands: ReadonlySet<number> = new Set([0x20, 0x24, 0x25, 0x29, 0xc4, 0xc8, 0x40, 0x42]);
export const writeCommands: ReadonlySet<number> = new Set([0x30, 0x34, 0x35, 0x39, 0xc5, 0xca]);
/** The write commands whose data goes through the data port (PIO). */
export const pioWriteCommands: ReadonlySet<number> = new Set([0x30, 0x34, 0x39, 0xc5]);
/** The commands with 48-bit addresses. */
export const wideCommands: ReadonlySet<number> = new Set([0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x42]);
export const multipleCommands: ReadonlySet<number> = new Set([0xc4, 0x29, 0xc5, 0x39]);
/**
 * Largest number of sectors of a data block of a multiple command; a power of two (word 47 of
 * IDENTIFY DEVICE).
 */
export const maxMultiple = 128;
