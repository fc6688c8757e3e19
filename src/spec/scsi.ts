/**
 * The numbers of SPC-3, SBC-3 and MMC-5 that packet devices use, in groups, each with its clause.
 *
 * Values only.
 */

/** Operation codes: SPC-3 table 80, SBC-3 table 10, MMC-5 table 235. */
export const Scsi = {
  testUnitReady: 0x00,
  requestSense: 0x03,
  read6: 0x08,
  write6: 0x0a,
  inquiry: 0x12,
  modeSelect6: 0x15,
  modeSense6: 0x1a,
  startStopUnit: 0x1b,
  preventAllow: 0x1e,
  readFormatCapacities: 0x23,
  readCapacity10: 0x25,
  read10: 0x28,
  write10: 0x2a,
  seek10: 0x2b,
  writeVerify10: 0x2e,
  verify10: 0x2f,
  synchronizeCache10: 0x35,
  readSubChannel: 0x42,
  readToc: 0x43,
  getConfiguration: 0x46,
  getEventStatus: 0x4a,
  readDiscInformation: 0x51,
  readTrackInformation: 0x52,
  modeSelect10: 0x55,
  modeSense10: 0x5a,
  read16: 0x88,
  write16: 0x8a,
  synchronizeCache16: 0x91,
  serviceActionIn16: 0x9e,
  reportLuns: 0xa0,
  read12: 0xa8,
  write12: 0xaa,
  getPerformance: 0xac,
  readDvdStructure: 0xad,
  setCdSpeed: 0xbb,
  mechanismStatus: 0xbd,
  readCd: 0xbe,
} as const;

/** SBC-3 5.13: service action of READ CAPACITY (16). */
export const readCapacity16Action = 0x10;

/** Sense key, additional sense code and qualifier (SPC-3 4.5.6, annex D). */
export type SenseCode = readonly [key: number, asc: number, ascq: number];

const SenseKey = {
  noSense: 0x0,
  notReady: 0x2,
  mediumError: 0x3,
  hardwareError: 0x4,
  illegalRequest: 0x5,
  unitAttention: 0x6,
  dataProtect: 0x7,
  abortedCommand: 0xb,
} as const;

const { notReady, mediumError, hardwareError, illegalRequest, unitAttention, dataProtect, abortedCommand } = SenseKey;

export const Sense = {
  noSense: [0, 0x00, 0x00],
  mediumNotPresent: [notReady, 0x3a, 0x00],
  mediumNotPresentTrayClosed: [notReady, 0x3a, 0x01],
  mediumNotPresentTrayOpen: [notReady, 0x3a, 0x02],
  unrecoveredRead: [mediumError, 0x11, 0x00],
  writeError: [mediumError, 0x0c, 0x00],
  ejectFailed: [hardwareError, 0x53, 0x00],
  invalidOpcode: [illegalRequest, 0x20, 0x00],
  lbaOutOfRange: [illegalRequest, 0x21, 0x00],
  invalidField: [illegalRequest, 0x24, 0x00],
  lunNotSupported: [illegalRequest, 0x25, 0x00],
  invalidParameter: [illegalRequest, 0x26, 0x00],
  saveNotSupported: [illegalRequest, 0x39, 0x00],
  removalPrevented: [illegalRequest, 0x53, 0x02],
  illegalModeForTrack: [illegalRequest, 0x64, 0x00],
  mediumMayHaveChanged: [unitAttention, 0x28, 0x00],
  reset: [unitAttention, 0x29, 0x00],
  ejectRequested: [unitAttention, 0x5a, 0x01],
  writeProtected: [dataProtect, 0x27, 0x00],
  spaceAllocationFailed: [dataProtect, 0x27, 0x07],
  aborted: [abortedCommand, 0x00, 0x00],
  dataError: [abortedCommand, 0x4b, 0x00],
} as const satisfies Record<string, SenseCode>;

/** SPC-3 table 83: peripheral device types. */
export const DeviceType = { direct: 0x00, cd: 0x05 } as const;

/** SPC-3 7.4.5, MMC-5 7: mode pages. */
export const ModePage = {
  errorRecovery: 0x01,
  caching: 0x08,
  powerCondition: 0x1a,
  capabilities: 0x2a,
  all: 0x3f,
} as const;

/** MMC-5 6.6.1 GET EVENT STATUS NOTIFICATION: event classes, and the events of the class media. */
export const EventClass = { operational: 1, power: 2, external: 3, media: 4 } as const;
export const MediaEvent = { none: 0, ejectRequest: 1, newMedia: 2, removal: 3 } as const;

/** MMC-5 table 87: profiles. */
export const Profile = { none: 0x0000, removableDisk: 0x0002, cdRom: 0x0008, dvdRom: 0x0010 } as const;

/** MMC-5 5.3: features. */
export const MmcFeature = {
  profileList: 0x0000,
  core: 0x0001,
  morphing: 0x0002,
  removable: 0x0003,
  randomReadable: 0x0010,
  cdRead: 0x001e,
  dvdRead: 0x001f,
  powerManagement: 0x0100,
  timeout: 0x0105,
} as const;

/** Bytes of a sector in the data track of a CD or DVD. */
export const discSector = 2048;
/** A CD holds at most 99 minutes of 75 sectors a second; a larger medium is taken as a DVD. */
export const cdMaxSectors = 99 * 60 * 75 - 150;
