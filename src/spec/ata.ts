/**
 * The numbers of ATA8-ACS (T13/1699-D), or of ACS-3 where noted, that the devices use, in groups,
 * each with its clause.
 *
 * Values only.
 */

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

export const AtaError = { abort: 0x04, idNotFound: 0x10, uncorrectable: 0x40 } as const;

/** Status of a device without an error. */
export const good = AtaStatus.ready | AtaStatus.seekComplete;

/** ATA8-ACS 7, table 10: command codes. */
export const Ata = {
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
/**
 * IDENTIFY word 105: largest number of 512-byte blocks of range entries in one DATA SET MANAGEMENT.
 */
export const dsmMaxBlocks = 8;

/** Largest number of queued commands in flight (IDENTIFY word 75, plus 1). */
export const queueDepth = 32;
