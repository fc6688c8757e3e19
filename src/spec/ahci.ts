/**
 * The numbers of AHCI 1.3.1 that the host bus adapter uses, in groups, each with its section.
 *
 * Not here: the frames that it receives and sends (sata-fis.ts).
 */

/** §3.1 Generic host control: offsets in bytes. */
export const HbaRegister = {
  cap: 0x00, // §3.1.1
  ghc: 0x04, // §3.1.2
  is: 0x08, // §3.1.3
  pi: 0x0c, // §3.1.4
  vs: 0x10, // §3.1.5
  cap2: 0x24, // §3.1.10
  bohc: 0x28, // §3.1.11
} as const;

/** §3: offset of the first port's registers, and bytes of each port's registers. */
export const portsStart = 0x100;
export const portSize = 0x80;
export const maxPorts = 32;
/** §3.1.1 CAP.NCS: command slots of each port. */
export const slots = 32;

/** §3.3 Port registers: offsets in bytes from the port's first register. */
export const PortRegister = {
  clb: 0x00, // §3.3.1
  clbu: 0x04, // §3.3.2
  fb: 0x08, // §3.3.3
  fbu: 0x0c, // §3.3.4
  is: 0x10, // §3.3.5
  ie: 0x14, // §3.3.6
  cmd: 0x18, // §3.3.7
  tfd: 0x20, // §3.3.8
  sig: 0x24, // §3.3.9
  ssts: 0x28, // §3.3.10
  sctl: 0x2c, // §3.3.11
  serr: 0x30, // §3.3.12
  sact: 0x34, // §3.3.13
  ci: 0x38, // §3.3.14
  sntf: 0x3c, // §3.3.15
} as const;

/** §3.1.1 HBA capabilities. */
export const Cap = {
  ncsShift: 8,
  pioMultipleDrq: 1 << 15,
  ahciOnly: 1 << 18,
  gen3: 3 << 20,
  commandListOverride: 1 << 24,
  ncq: 1 << 30,
  addresses64: 1 << 31,
} as const;

/** §3.1.2 Global HBA control. */
export const Ghc = { reset: 1 << 0, interrupts: 1 << 1, ahci: 1 << 31 } as const;

/** §3.3.5 Port interrupt status (PxIS); PxIE (§3.3.6) has the same bits. */
export const PortInterrupt = {
  d2hRegister: 1 << 0,
  pioSetup: 1 << 1,
  dmaSetup: 1 << 2,
  setDeviceBits: 1 << 3,
  unknownFis: 1 << 4,
  connectChange: 1 << 6,
  phyReadyChange: 1 << 22,
  overflow: 1 << 24,
  interfaceNonFatal: 1 << 26,
  interfaceFatal: 1 << 27,
  hostBusData: 1 << 28,
  hostBusFatal: 1 << 29,
  taskFileError: 1 << 30,
  /** Bits of PxIS that writing a 1 clears. The others mirror PxSERR. */
  clearable: 0xfd8000af,
  /** Implemented bits of PxIE. */
  enable: 0xfdc000ff,
} as const;

/** §3.3.7 Port command and status. */
export const PortCmd = {
  start: 1 << 0,
  spinUp: 1 << 1,
  powerOn: 1 << 2,
  commandListOverride: 1 << 3,
  fisReceive: 1 << 4,
  currentSlotShift: 8,
  fisReceiveRunning: 1 << 14,
  listRunning: 1 << 15,
  hotPlugCapable: 1 << 18,
  atapi: 1 << 24,
  /** Bits that software can set and read back: ST, FRE, ATAPI, DLAE. */
  stored: (1 << 0) | (1 << 4) | (1 << 24) | (1 << 25),
} as const;

/**
 * §3.3.10 PxSSTS: no device; device present without communication; device present and communicating
 * at generation 3, interface active; interface disabled.
 */
export const LinkStatus = { none: 0x000, noCommunication: 0x001, up: 0x133, offline: 0x004 } as const;

/** §3.3.11 PxSCTL.DET. */
export const Det = { none: 0, comreset: 1, disable: 4 } as const;

/** §3.3.12 PxSERR: the bits used. */
export const SError = { phyReadyChange: 1 << 16, exchanged: 1 << 26, protocol: 1 << 10, handshake: 1 << 22 } as const;

/** §4.2.1 Received FIS structure: offsets in bytes. */
export const ReceivedFis = {
  dmaSetup: 0x00,
  pioSetup: 0x20,
  d2hRegister: 0x40,
  setDeviceBits: 0x58,
  size: 256,
} as const;

/** §4.2.2 Command list: bytes of a command header, and the fields of its first dword. */
export const headerSize = 32;
export const Header = {
  fisLengthMask: 0x1f,
  atapi: 1 << 5,
  write: 1 << 6,
  reset: 1 << 8,
  bist: 1 << 9,
  clearBusy: 1 << 10,
  prdtLengthShift: 16,
} as const;

/**
 * §4.2.3 Command table: offsets in bytes. A PRD has 16 bytes, with a 0-based byte count of 22 bits.
 */
export const CommandTable = { fis: 0x00, packet: 0x40, prdt: 0x80, prdSize: 16, countMask: 0x3fffff } as const;
