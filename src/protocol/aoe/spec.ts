/**
 * Constants of ATA over Ethernet, protocol version 1: "AoE (ATA over Ethernet)", AoEr11, February
 * 2009 ("[AoE] section"). Constants of ATA ("[ATA] section") are in spec/ata.ts.
 *
 * All fields are in network byte order except the LBA, which is little-endian. Offsets are in
 * bytes from the start of the frame, including the Ethernet header.
 */
import { sectorSize } from '../../spec/ata.js';

/** [AoE] 2.1: the registered Ethernet type. */
export const AOE_TYPE = 0x88a2;
/** [AoE] 2.2: protocol version. */
export const AOE_VERSION = 1;

/** [AoE] 2: offsets in the header, which every message begins with. */
export const Header = {
  /** EtherType, 2 bytes. */
  type: 12,
  /** Version in the high 4 bits, {@link Flag} bits in the low 4. */
  versionFlags: 14,
  /** {@link AoeError}; valid if the error flag is set. */
  error: 15,
  /** Major address of the target, 2 bytes. */
  shelf: 16,
  /** Minor address of the target, 1 byte. */
  slot: 18,
  command: 19,
  /** 4 bytes. The initiator chooses the tag; the target repeats it in the response. */
  tag: 20,
  /** The command's argument begins here. */
  size: 24,
} as const;

/** [AoE] 2.2: header flags. The other bits are reserved. */
export const Flag = { response: 0x8, error: 0x4 } as const;

/** [AoE] 2.3: error codes of a response. */
export const AoeError = {
  unknownCommand: 1,
  badArgument: 2,
  unavailable: 3,
  configPresent: 4,
  badVersion: 5,
  reserved: 6,
} as const;

/** [AoE] 2.4: wildcard addresses, for every shelf and every slot. */
export const anyShelf = 0xffff;
export const anySlot = 0xff;

/**
 * [AoE] 2.5: commands. Those from 0xf0 on are vendor-specific; `session` is Farbus's own
 * (session.ts).
 */
export const AoeCommand = { ata: 0, config: 1, mask: 2, reserve: 3, session: 0xfa } as const;

/** [AoE] 3.1: offsets in the argument of command 0. */
export const AtaArgument = {
  /** {@link AtaFlag} bits. */
  flags: 24,
  /** Feature register in a request, error register in a response. */
  feature: 25,
  /** Sectors to transfer in a request; [ATA] count register in a response. */
  count: 26,
  /** Command register in a request, status register in a response. */
  command: 27,
  /** 6 bytes, little-endian. */
  lba: 28,
  /** 2 bytes. Zero in plain AoE; the session's generation in a Farbus session (session.ts). */
  reserved: 34,
  /** The data begins here. */
  size: 36,
} as const;

/** [AoE] 3.1: the flags E, D, A and W. */
export const AtaFlag = { extended: 0x40, device: 0x10, asynchronous: 0x02, write: 0x01 } as const;

/** [AoE] 3.2: offsets in the argument of command 1. */
export const ConfigArgument = {
  /** Number of messages that the target can queue, 2 bytes. */
  bufferCount: 24,
  /** Firmware version, 2 bytes. */
  firmware: 26,
  /** Maximum number of sectors in one message; 0 means 2. */
  sectors: 28,
  /** Version in the high 4 bits, {@link ConfigCommand} in the low 4. */
  versionCommand: 29,
  /** Length of the config string, 2 bytes. */
  length: 30,
  /** The config string begins here. */
  size: 32,
} as const;

/** [AoE] 3.2: subcommands of command 1. */
export const ConfigCommand = { read: 0, test: 1, prefix: 2, set: 3, force: 4 } as const;
/** [AoE] 3.2: maximum length of the config string, in bytes. */
export const maxConfig = 1024;

/**
 * [AoE] 3.3: offsets in the argument of command 2. Directives follow it, of {@link
 * maskDirectiveSize} bytes each: reserved byte, directive, MAC address.
 */
export const MaskArgument = { command: 25, error: 26, count: 27, size: 28 } as const;
export const maskDirectiveSize = 8;
export const MaskCommand = { read: 0, edit: 1 } as const;
export const MaskDirective = { none: 0, add: 1, remove: 2 } as const;
export const MaskError = { unspecified: 1, badDirective: 2, full: 3 } as const;

/** [AoE] 3.4: offsets in the argument of command 3. MAC addresses of 6 bytes follow it. */
export const ReserveArgument = { command: 24, count: 25, size: 26 } as const;
export const ReserveCommand = { read: 0, set: 1, force: 2 } as const;

/**
 * Bytes of the MTU that a data message uses besides its data: the AoE header and the ATA argument.
 */
const ataOverhead = AtaArgument.size - 14;

/**
 * Number of sectors that fit into a message with this MTU (bytes). At most 255: the count has 8
 * bits.
 */
export function sectorsOf(mtu: number): number {
  return Math.min(255, Math.floor((mtu - ataOverhead) / sectorSize));
}
