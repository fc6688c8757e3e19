/**
 * Farbus's extension of AoE: sessions, in which the target recognises every copy of a command. So
 * a late copy of a write cannot land on newer data (no ghost write). Plain AoE cannot ensure this:
 * the initiator chooses tags freely, and a target without memory executes every copy that arrives.
 *
 * To open a session, an initiator sends AoE command 0xfa, one of those that [AoE] 2.5 leaves to
 * vendors. Another vendor's target answers "unrecognised command"; the initiator then relies on
 * time (initiator/quarantine.ts). A Farbus target answers with the session's generation. The
 * initiator puts the generation into the two reserved bytes of its ATA arguments, and its tags
 * become the sequence numbers of the session. Docs: docs/aoe.md, "Ghost writes".
 *
 * Opening again with the same nonce returns the same session, so copies of the opening do no harm.
 * An opening can supersede an older session: the target then executes no further command of that
 * session, and answers the opening once none of its commands is in flight.
 *
 * An opening that supersedes no session ends all older sessions of the initiator's address in the
 * same way, because a process that follows a killed one may not know its session. Several processes
 * can use one address. So an initiator that knows which sessions are to end says so by a flag
 * ({@link OpeningFlag.named}), and the target ends no other session.
 *
 * Openings and grants end with a checksum, and the commands of such a session are sealed (seal.ts).
 * Farbus 0.1.0 has neither: it sends zeroes in the place of the checksum, and gets a session
 * without seals.
 */
import { getU16, getU32, putU16, putU32 } from '../../base/big-endian.js';
import { crc32 } from '../../base/crc32.js';
import { AoeError, Header } from './spec.js';

/** Offsets in the argument, in bytes from the start of the frame. */
const Argument = {
  magic: 24,
  operation: 32,
  /** In a request: {@link OpeningFlag} bits. In a response: {@link SessionFlag} bits. */
  flags: 33,
  /**
   * Generation: in a request that of the superseded session, or 0 for none; in a response that of
   * the opened session, never 0.
   */
  generation: 34,
  nonce: 36,
  /** In a response: identifies the memory in which the target holds unflushed writes. */
  memory: 44,
  /** In a request: the first tag of the session. */
  firstTag: 52,
  /** CRC-32 of the tag and of the argument up to here; 0: none, and no seals. */
  check: 56,
  size: 60,
} as const;

const magic = new TextEncoder().encode('FarbusS1');
/** The only operation: open a session. */
const openOperation = 1;

/** `named`: the target ends only the superseded session. Farbus 0.1.0 sends 0. */
const OpeningFlag = { named: 1 } as const;
/** Flags of a grant. `readOnly`: the target refuses writes. */
const SessionFlag = { readOnly: 1 } as const;

/**
 * Error code for a command of a session that the target does not know (any more): the initiator
 * must open a new one. Not one of the errors of [AoE] 2.3.
 */
export const unknownSession = 0xf0;

/**
 * Maximum distance between the oldest and the newest tag in use, and the number of tags that the
 * target remembers.
 */
export const tagSpan = 512;
export const tagMemory = 4 * tagSpan;

/** Length of the frames of openings and grants, in bytes. */
export const sessionFrameSize = Argument.size;
/** Length of a nonce, and of the name of a target's memory, in bytes. */
export const nonceSize = 8;

/** A request for a session. */
export interface SessionOpening {
  /** Random; identifies the requested session. */
  readonly nonce: Uint8Array;
  /** Generation of the session that this one supersedes, or 0 for none. */
  readonly supersedes: number;
  readonly firstTag: number;
  /** The target ends only the superseded session: {@link OpeningFlag}. */
  readonly named: boolean;
  /** The initiator can seal commands. */
  readonly sealed: boolean;
}

/** The target's answer to an opening. */
export interface SessionGrant {
  readonly nonce: Uint8Array;
  readonly generation: number;
  /** Names the memory that holds the target's unflushed writes. */
  readonly memory: Uint8Array;
  readonly readOnly: boolean;
  /** The commands of the session are sealed. */
  readonly sealed: boolean;
}

/** Writes the argument of an opening. `frame` must have {@link sessionFrameSize} bytes. */
export function putOpening(frame: Uint8Array, opening: SessionOpening): void {
  const { nonce, supersedes, firstTag, named, sealed } = opening;
  frame.fill(0, Header.size, Argument.size);
  frame.set(magic, Argument.magic);
  frame[Argument.operation] = openOperation;
  frame[Argument.flags] = named ? OpeningFlag.named : 0;
  putU16(frame, Argument.generation, supersedes);
  frame.set(nonce, Argument.nonce);
  putU32(frame, Argument.firstTag, firstTag);
  if (sealed) putU32(frame, Argument.check, checkOf(frame));
}

/**
 * Reads an opening. Returns an AoE error if the frame has none, or 'damaged' if its checksum is
 * wrong. The nonce is a copy.
 */
export function getOpening(frame: Uint8Array): SessionOpening | number | 'damaged' {
  if (!isOurs(frame)) return AoeError.unknownCommand;
  const check = getU32(frame, Argument.check);
  if (check !== 0 && check !== checkOf(frame)) return 'damaged';
  if (frame[Argument.operation] !== openOperation) return AoeError.badArgument;
  return {
    nonce: frame.slice(Argument.nonce, Argument.nonce + nonceSize),
    supersedes: getU16(frame, Argument.generation),
    firstTag: getU32(frame, Argument.firstTag),
    named: (frame[Argument.flags]! & OpeningFlag.named) !== 0,
    sealed: check !== 0,
  };
}

/** Turns an opening in `frame` into a grant. */
export function putGrant(frame: Uint8Array, grant: SessionGrant): void {
  const { nonce, generation, memory, readOnly, sealed } = grant;
  putOpening(frame, { nonce, supersedes: generation, firstTag: 0, named: false, sealed: false });
  frame[Argument.flags] = readOnly ? SessionFlag.readOnly : 0;
  frame.set(memory.subarray(0, nonceSize), Argument.memory);
  if (sealed) putU32(frame, Argument.check, checkOf(frame));
}

/**
 * Reads a grant; returns undefined if the response is not one or is damaged. All byte arrays are
 * copies.
 */
export function getGrant(frame: Uint8Array): SessionGrant | undefined {
  if (!isOurs(frame)) return undefined;
  const generation = getU16(frame, Argument.generation);
  const check = getU32(frame, Argument.check);
  if (generation === 0 || (check !== 0 && check !== checkOf(frame))) return undefined;
  return {
    nonce: frame.slice(Argument.nonce, Argument.nonce + nonceSize),
    generation,
    memory: frame.slice(Argument.memory, Argument.memory + nonceSize),
    readOnly: (frame[Argument.flags]! & SessionFlag.readOnly) !== 0,
    sealed: check !== 0,
  };
}

/**
 * True if the argument of an error answer begins like the opening. Otherwise damage to the opening
 * or to a grant has made the error.
 */
export function repeatsOpening(answer: Uint8Array, opening: SessionOpening): boolean {
  const sent = new Uint8Array(Argument.size);
  putOpening(sent, opening);
  return sent.subarray(Argument.magic, Argument.nonce).every((byte, at) => answer[Argument.magic + at] === byte);
}

/** The checksum of an opening or grant, never 0. */
function checkOf(frame: Uint8Array): number {
  return crc32(frame.subarray(Header.tag, Argument.check)) || 1;
}

function isOurs(frame: Uint8Array): boolean {
  return frame.length >= Argument.size && magic.every((byte, index) => frame[Argument.magic + index] === byte);
}
