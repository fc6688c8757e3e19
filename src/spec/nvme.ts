/**
 * The numbers of NVM Express 1.4 that the controller uses, in groups, each with its section.
 *
 * Not here: identify data (nvme-identify.ts).
 */

/** §3.1 Register definition: offsets in bytes from the start of BAR 0. */
export const Register = {
  cap: 0x00, // §3.1.1, 8 bytes
  vs: 0x08, // §3.1.2
  intms: 0x0c, // §3.1.3
  intmc: 0x10, // §3.1.4
  cc: 0x14, // §3.1.5
  csts: 0x1c, // §3.1.6
  nssr: 0x20, // §3.1.7
  aqa: 0x24, // §3.1.8
  asq: 0x28, // §3.1.9, 8 bytes
  acq: 0x30, // §3.1.10, 8 bytes
  doorbells: 0x1000, // §3.1.24, §3.1.25, CAP.DSTRD 0: 4 bytes each: SQ0 tail, CQ0 head, SQ1 tail, …
} as const;

/** §3.1.5 Controller configuration. */
export const Cc = {
  enable: 1 << 0,
  cssShift: 4,
  mpsShift: 7,
  amsShift: 11,
  shnShift: 14,
  iosqesShift: 16,
  iocqesShift: 20,
} as const;

/** §3.1.6 Controller status. */
export const Csts = { ready: 1 << 0, fatal: 1 << 1, shutdownOccurring: 1 << 2, shutdownComplete: 2 << 2 } as const;

/** §5 Admin command set: opcodes (figure 138). */
export const AdminOpcode = {
  deleteSq: 0x00,
  createSq: 0x01,
  getLogPage: 0x02,
  deleteCq: 0x04,
  createCq: 0x05,
  identify: 0x06,
  abort: 0x08,
  setFeatures: 0x09,
  getFeatures: 0x0a,
  asyncEventRequest: 0x0c,
  doorbellBufferConfig: 0x7c,
} as const;

/** §6 NVM command set: opcodes (figure 346). */
export const NvmOpcode = { flush: 0x00, write: 0x01, read: 0x02, writeZeroes: 0x08, datasetManagement: 0x09 } as const;

/** §4.6.1: status code type and status code of a completion, as `type << 8 | code`. */
export const Status = {
  // §4.6.1.2.1 generic
  success: 0x000,
  invalidOpcode: 0x001,
  invalidField: 0x002,
  commandIdConflict: 0x003,
  dataTransferError: 0x004,
  internalError: 0x006,
  abortRequested: 0x007,
  abortedSqDeletion: 0x008,
  invalidNamespace: 0x00b,
  commandSequenceError: 0x00c,
  invalidPrpOffset: 0x013,
  lbaOutOfRange: 0x080,
  capacityExceeded: 0x081,
  namespaceNotReady: 0x082,
  // §4.6.1.2.2 command specific
  completionQueueInvalid: 0x100,
  invalidQueueIdentifier: 0x101,
  invalidQueueSize: 0x102,
  abortLimitExceeded: 0x103,
  asyncEventLimitExceeded: 0x105,
  invalidInterruptVector: 0x108,
  invalidLogPage: 0x109,
  invalidQueueDeletion: 0x10c,
  featureNotSaveable: 0x10d,
  featureNotChangeable: 0x10e,
  attributesConflict: 0x180,
  writeToReadOnly: 0x182,
  // §4.6.1.2.3 media and data integrity
  writeFault: 0x280,
  unrecoveredReadError: 0x281,
} as const;

/** §4.6.1, bit "do not retry" (DNR): bit 14 of the 15-bit status field without the phase tag. */
export const doNotRetry = 1 << 14;

/** §5.15.1 Identify: CNS values, figure 245. */
export const Cns = {
  namespace: 0x00,
  controller: 0x01,
  activeNamespaces: 0x02,
  namespaceDescriptors: 0x03,
} as const;

/** §5.21.1 Feature identifiers, figure 271. */
export const Feature = {
  arbitration: 0x01,
  powerManagement: 0x02,
  temperatureThreshold: 0x04,
  errorRecovery: 0x05,
  volatileWriteCache: 0x06,
  numberOfQueues: 0x07,
  interruptCoalescing: 0x08,
  interruptVectorConfiguration: 0x09,
  writeAtomicity: 0x0a,
  asyncEventConfiguration: 0x0b,
} as const;

/** §5.14.1 Log page identifiers, figure 191. */
export const LogPage = {
  error: 0x01,
  smart: 0x02,
  firmwareSlot: 0x03,
  changedNamespaces: 0x04,
  commandsSupported: 0x05,
} as const;

/**
 * §5.2 Asynchronous events: types (figure 145) and the event information used (figures 146, 148).
 */
export const AsyncEvent = {
  typeError: 0,
  typeNotice: 2,
  invalidDoorbellRegister: 0x00,
  invalidDoorbellValue: 0x01,
  namespaceAttributeChanged: 0x00,
} as const;

/**
 * Bytes of a submission queue entry (§4.2, CC.IOSQES 6) and a completion queue entry (§4.6,
 * CC.IOCQES 4).
 */
export const sqeSize = 64;
export const cqeSize = 16;

/** Command dword 12: bit 30 is FUA (§6.8, §6.15), bit 25 is DEAC of Write Zeroes (§6.17). */
export const fuaBit = 1 << 30;
export const deallocateBit = 1 << 25;
