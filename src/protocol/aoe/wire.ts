/** Encodes and decodes AoE headers, ATA arguments and config arguments in place ([AoE] 2, 3). */
import { getU16, getU32, putU16, putU32 } from '../../base/big-endian.js';
import { AOE_TYPE, AOE_VERSION, AtaArgument, ConfigArgument, ConfigCommand, Header } from './spec.js';

/**
 * Minimum length of an Ethernet frame without its checksum, in bytes. Shorter messages are padded
 * with zeroes.
 */
export const minFrame = 60;

/** The fields that identify a message. */
export interface MessageHeader {
  readonly shelf: number;
  readonly slot: number;
  /** AoeCommand. */
  readonly command: number;
  readonly tag: number;
}

/** Writes the header of a request. */
export function putHeader(frame: Uint8Array, to: Uint8Array, from: Uint8Array, header: MessageHeader, flags = 0): void {
  frame.set(to);
  frame.set(from, 6);
  putU16(frame, Header.type, AOE_TYPE);
  frame[Header.versionFlags] = (AOE_VERSION << 4) | flags;
  frame[Header.error] = 0;
  putU16(frame, Header.shelf, header.shelf);
  frame[Header.slot] = header.slot;
  frame[Header.command] = header.command;
  putU32(frame, Header.tag, header.tag);
}

/** True if the frame has the AoE EtherType and a complete header, whatever its version. */
export function isAoe(frame: Uint8Array): boolean {
  return frame.length >= Header.size && getU16(frame, Header.type) === AOE_TYPE;
}

export function versionOf(frame: Uint8Array): number {
  return frame[Header.versionFlags]! >> 4;
}

export function flagsOf(frame: Uint8Array): number {
  return frame[Header.versionFlags]! & 0xf;
}

export function tagOf(frame: Uint8Array): number {
  return getU32(frame, Header.tag);
}

/** The ATA argument of a request ([AoE] 3.1). */
export interface AtaRequest {
  /** AtaFlag bits. */
  readonly flags: number;
  readonly feature: number;
  /** Sectors. */
  readonly count: number;
  /** AtaCommand. */
  readonly command: number;
  readonly lba: number;
  /** Generation of the Farbus session, or 0 outside of one. */
  readonly generation: number;
}

export function putAta(frame: Uint8Array, ata: AtaRequest): void {
  frame[AtaArgument.flags] = ata.flags;
  frame[AtaArgument.feature] = ata.feature;
  frame[AtaArgument.count] = ata.count;
  frame[AtaArgument.command] = ata.command;
  putLba(frame, ata.lba);
  putU16(frame, AtaArgument.reserved, ata.generation);
}

/** Reads the ATA argument. `frame` must have at least AtaArgument.size bytes. */
export function getAta(frame: Uint8Array): AtaRequest {
  return {
    flags: frame[AtaArgument.flags]!,
    feature: frame[AtaArgument.feature]!,
    count: frame[AtaArgument.count]!,
    command: frame[AtaArgument.command]!,
    lba: getLba(frame),
    generation: getU16(frame, AtaArgument.reserved),
  };
}

function putLba(frame: Uint8Array, lba: number): void {
  let rest = lba;
  for (let at = AtaArgument.lba; at < AtaArgument.lba + 6; at++) {
    frame[at] = rest;
    rest = Math.floor(rest / 256);
  }
}

/** Reads 48 bits, little-endian. */
function getLba(frame: Uint8Array): number {
  const at = AtaArgument.lba;
  const low = (frame[at]! | (frame[at + 1]! << 8) | (frame[at + 2]! << 16) | (frame[at + 3]! << 24)) >>> 0;
  return low + (frame[at + 4]! | (frame[at + 5]! << 8)) * 0x1_0000_0000;
}

/** The config response of a target ([AoE] 3.2). */
export interface TargetConfig {
  /** Number of messages that the target can queue. */
  readonly bufferCount: number;
  /** Version of the target's firmware. */
  readonly firmware: number;
  /** Maximum number of sectors in one message. */
  readonly sectors: number;
  /** The config string. */
  readonly text: Uint8Array;
}

/** Writes a config argument. `frame` must have room for the string. */
export function putConfig(frame: Uint8Array, config: TargetConfig, command: number): void {
  putU16(frame, ConfigArgument.bufferCount, config.bufferCount);
  putU16(frame, ConfigArgument.firmware, config.firmware);
  frame[ConfigArgument.sectors] = config.sectors;
  frame[ConfigArgument.versionCommand] = (AOE_VERSION << 4) | command;
  putU16(frame, ConfigArgument.length, config.text.length);
  frame.set(config.text, ConfigArgument.size);
}

/**
 * Reads a config argument. Returns undefined if the frame is too short. `text` is a view of the
 * frame.
 */
export function getConfig(frame: Uint8Array): TargetConfig | undefined {
  if (frame.length < ConfigArgument.size) return undefined;
  const end = ConfigArgument.size + getU16(frame, ConfigArgument.length);
  if (frame.length < end) return undefined;
  return {
    bufferCount: getU16(frame, ConfigArgument.bufferCount),
    firmware: getU16(frame, ConfigArgument.firmware),
    // [AoE] 3.2: zero means 2.
    sectors: frame[ConfigArgument.sectors]! || 2,
    text: frame.subarray(ConfigArgument.size, end),
  };
}

/** A config query of subcommand "read" ([AoE] 3.2), as a complete frame. */
export function configQuery(to: Uint8Array, from: Uint8Array, shelf: number, slot: number, tag: number): Uint8Array {
  const frame = new Uint8Array(minFrame);
  putHeader(frame, to, from, { shelf, slot, command: 1, tag });
  putConfig(frame, { bufferCount: 0, firmware: 0, sectors: 0, text: new Uint8Array(0) }, ConfigCommand.read);
  return frame;
}
