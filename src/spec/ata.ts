/**
 * The numbers of ATA8-ACS (T13/1699-D), or of ACS-3 where noted, in groups, each with its clause:
 * registers, commands and their kinds, logs. ATA disks, packet drives, v86's IDE drives and AoE use
 * them.
 *
 * Not here: IDENTIFY data (ata-identify.ts), Serial ATA frames (sata-fis.ts).
 */

/** Bytes of a sector, unless IDENTIFY DEVICE reports others (7.16.7.53). */
export const sectorSize = 512;
/** 4.2: number of sectors that 28-bit and 48-bit addresses can reach. */
export const lba28Limit = 2 ** 28 - 1;
export const lba48Limit = 2 ** 48;

/** The registers of a command (ATA8-ACS 7.1.2, 7.1.4). */
export interface TaskFile {
  readonly command: number;
  /** 16 bits. */
  readonly features: number;
  /** 48 bits. */
  readonly lba: number;
  /** 16 bits. */
  readonly count: number;
  readonly device: number;
}

/** The registers at the end of a command (ATA8-ACS 6). */
export interface ResultFile {
  readonly status: number;
  readonly error: number;
  readonly lba: number;
  readonly count: number;
  readonly device: number;
}

/** ATA8-ACS 6.2 status and 6.3 error registers. */
export const AtaStatus = {
  error: 0x01,
  /** ACS-3 6.2.8: sense data is available. */
  sense: 0x02,
  dataRequest: 0x08,
  /** Device seek complete: an obsolete bit that old drivers wait for. */
  seekComplete: 0x10,
  deviceFault: 0x20,
  ready: 0x40,
  busy: 0x80,
} as const;

/** Bit 6 means `writeProtected` for a write and `uncorrectable` for a read. */
export const AtaError = { abort: 0x04, idNotFound: 0x10, uncorrectable: 0x40, writeProtected: 0x40 } as const;

/** Device control register: software reset (SRST). */
export const controlReset = 0x04;

/** Status of a device without an error. */
export const good = AtaStatus.ready | AtaStatus.seekComplete;

/** ATA8-ACS 7, table 10: command codes. */
export const AtaCommand = {
  nop: 0x00,
  dataSetManagement: 0x06,
  deviceReset: 0x08,
  requestSenseDataExt: 0x0b, // ACS-3 7.33
  readSectors: 0x20,
  readSectorsExt: 0x24,
  readDmaExt: 0x25,
  readNativeMaxExt: 0x27,
  readMultipleExt: 0x29,
  readLogExt: 0x2f,
  writeSectors: 0x30,
  writeSectorsExt: 0x34,
  writeDmaExt: 0x35,
  writeMultipleExt: 0x39,
  writeDmaFuaExt: 0x3d,
  writeMultipleFuaExt: 0xce,
  readVerify: 0x40,
  readVerifyExt: 0x42,
  writeUncorrectableExt: 0x45,
  readFpdma: 0x60,
  writeFpdma: 0x61,
  executeDiagnostic: 0x90,
  packet: 0xa0,
  identifyPacket: 0xa1,
  smart: 0xb0,
  readMultiple: 0xc4,
  writeMultiple: 0xc5,
  setMultiple: 0xc6,
  readDma: 0xc8,
  writeDma: 0xca,
  standbyImmediate: 0xe0,
  idleImmediate: 0xe1,
  standby: 0xe2,
  idle: 0xe3,
  checkPowerMode: 0xe5,
  sleep: 0xe6,
  flushCache: 0xe7,
  flushCacheExt: 0xea,
  identify: 0xec,
  setFeatures: 0xef,
  readNativeMax: 0xf8,
} as const;

/** A kind of command that addresses sectors. */
export interface SectorCommand {
  /** The direction; `verify` reads the medium but transfers nothing. */
  readonly act: 'read' | 'write' | 'verify';
  /** `pio`: the data goes through the data port. */
  readonly protocol: 'dma' | 'pio' | 'none';
  /** True if the address has 48 bits, false if it has 28. */
  readonly wide: boolean;
  /** Transfers the blocks that SET MULTIPLE MODE has set. */
  readonly multiple: boolean;
  /** Force unit access: durable when answered. Queued commands have a bit for it instead. */
  readonly fua: boolean;
  /** Native command queuing. */
  readonly queued: boolean;
}

/** ATA8-ACS 7: the commands that address sectors. */
export const sectorCommands: ReadonlyMap<number, SectorCommand> = new Map(
  (
    [
      [AtaCommand.readSectors, 'read', 'pio'],
      [AtaCommand.readSectorsExt, 'read', 'pio', 'wide'],
      [AtaCommand.readMultiple, 'read', 'pio', 'multiple'],
      [AtaCommand.readMultipleExt, 'read', 'pio', 'wide', 'multiple'],
      [AtaCommand.readDma, 'read', 'dma'],
      [AtaCommand.readDmaExt, 'read', 'dma', 'wide'],
      [AtaCommand.readFpdma, 'read', 'dma', 'wide', 'queued'],
      [AtaCommand.readVerify, 'verify', 'none'],
      [AtaCommand.readVerifyExt, 'verify', 'none', 'wide'],
      [AtaCommand.writeSectors, 'write', 'pio'],
      [AtaCommand.writeSectorsExt, 'write', 'pio', 'wide'],
      [AtaCommand.writeMultiple, 'write', 'pio', 'multiple'],
      [AtaCommand.writeMultipleExt, 'write', 'pio', 'wide', 'multiple'],
      [AtaCommand.writeMultipleFuaExt, 'write', 'pio', 'wide', 'multiple', 'fua'],
      [AtaCommand.writeDma, 'write', 'dma'],
      [AtaCommand.writeDmaExt, 'write', 'dma', 'wide'],
      [AtaCommand.writeDmaFuaExt, 'write', 'dma', 'wide', 'fua'],
      [AtaCommand.writeFpdma, 'write', 'dma', 'wide', 'queued'],
    ] as const
  ).map(([command, act, protocol, ...kinds]) => {
    const is = (kind: string): boolean => (kinds as readonly string[]).includes(kind);
    return [
      command,
      { act, protocol, wide: is('wide'), multiple: is('multiple'), fua: is('fua'), queued: is('queued') },
    ];
  }),
);

/** ATA8-ACS 7.47 SET FEATURES subcommands; ACS-3 7.45 has sense data reporting. */
export const SetFeature = {
  enableWriteCache: 0x02,
  transferMode: 0x03,
  enableApm: 0x05,
  enableSataFeature: 0x10,
  disableReadLookAhead: 0x55,
  disableRevert: 0x66,
  disableWriteCache: 0x82,
  disableApm: 0x85,
  disableSataFeature: 0x90,
  enableReadLookAhead: 0xaa,
  senseReporting: 0xc3,
  enableRevert: 0xcc,
} as const;

/** SATA 3.0 13.3.1: subcommands of {@link SetFeature.enableSataFeature}. */
export const SataFeature = { asynchronousNotification: 0x05 } as const;

/**
 * ATA8-ACS 7.53 SMART: subcommands, the key in the LBA field, and the key that RETURN STATUS
 * answers if a threshold is exceeded.
 */
export const Smart = {
  readData: 0xd0,
  readThresholds: 0xd1,
  autosave: 0xd2,
  executeOffline: 0xd4,
  readLog: 0xd5,
  enable: 0xd8,
  disable: 0xd9,
  returnStatus: 0xda,
  key: 0xc24f,
  keyFailing: 0x2cf4,
} as const;

/** ATA8-ACS A: general purpose and SMART log addresses. */
export const AtaLog = {
  directory: 0x00,
  summaryError: 0x01,
  extendedError: 0x03,
  selfTest: 0x06,
  ncqError: 0x10,
} as const;

/**
 * ATA8-ACS 7.42: a range entry of DATA SET MANAGEMENT has 8 bytes: 48 bits of LBA, 16 bits of
 * length.
 */
export const dsmEntrySize = 8;
