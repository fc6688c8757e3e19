/**
 * Our own extension of AoE: sessions, by which a Farbus target knows every copy of a command for what it is, so that no
 * late copy of a write can land on newer data (no ghost write). AoE alone cannot: a tag is whatever the initiator likes,
 * and a target that remembers nothing executes each copy that arrives.
 *
 * An initiator sends AoE command 0xfa, one of those that [AoE] 2.5 leaves to vendors. A target of others answers
 * "unrecognised command", and the initiator goes by time instead (initiator/quarantine.ts). A Farbus target answers with
 * the session's generation, which the initiator then puts into the two reserved bytes of its ATA arguments; and its tags
 * are from now on the session's sequence numbers. Docs: docs/aoe.md, "Ghost writes".
 *
 * Opening again with the same nonce gives the same session, so that copies of the opening do no harm. An opening can
 * supersede an older session: the target executes nothing of that one any more, and answers when all that it had begun
 * is over.
 */
import { getU16, getU32, putU16, putU32 } from '../../base/big-endian.js';
import { AoeError, Header } from './spec.js';

/** Offsets of the argument, in bytes from the start of the frame. */
const Argument = {
  magic: 24,
  operation: 32,
  /** In a response: {@link SessionFlag}s. */
  flags: 33,
  /** In a request: that of the session which is superseded, or 0. In a response: that of the session. Never 0. */
  generation: 34,
  nonce: 36,
  /** In a response: names the life of the target's memory of writes that are not flushed. */
  life: 44,
  /** In a request: the first tag of the session. */
  firstTag: 52,
  size: 56,
} as const;

const magic = new TextEncoder().encode('FarbusS1');
const openOperation = 1;

export const SessionFlag = { readOnly: 1 } as const;

/** Answer to a command of a session that the target does not know, or no more: open one. Beyond [AoE] 2.3's errors. */
export const unknownSession = 0xf0;

/** The most that a session's tags in use may span, and how many the target remembers. */
export const tagSpan = 512;
export const tagMemory = 4 * tagSpan;

export const sessionFrameSize = Argument.size;
/** Bytes of a nonce, and of what names a life. */
export const nonceSize = 8;

export interface SessionOpening {
  /** Random: names the session that is asked for. */
  readonly nonce: Uint8Array;
  /** Generation of the session that it takes the place of; 0: none. */
  readonly supersedes: number;
  readonly firstTag: number;
}

export interface SessionGrant {
  readonly nonce: Uint8Array;
  readonly generation: number;
  readonly life: Uint8Array;
  readonly readOnly: boolean;
}

/** Writes the argument of an opening behind the header in `frame`, which has {@link sessionFrameSize} bytes. */
export function putOpening(frame: Uint8Array, { nonce, supersedes, firstTag }: SessionOpening): void {
  frame.fill(0, Header.size, Argument.size);
  frame.set(magic, Argument.magic);
  frame[Argument.operation] = openOperation;
  putU16(frame, Argument.generation, supersedes);
  frame.set(nonce, Argument.nonce);
  putU32(frame, Argument.firstTag, firstTag);
}

/** The opening in a frame; an AoE error where it has none. The nonce is a copy. */
export function getOpening(frame: Uint8Array): SessionOpening | number {
  if (!isOurs(frame)) return AoeError.unknownCommand;
  if (frame[Argument.operation] !== openOperation) return AoeError.badArgument;
  return {
    nonce: frame.slice(Argument.nonce, Argument.nonce + nonceSize),
    supersedes: getU16(frame, Argument.generation),
    firstTag: getU32(frame, Argument.firstTag),
  };
}

export function putGrant(frame: Uint8Array, grant: SessionGrant): void {
  putOpening(frame, { nonce: grant.nonce, supersedes: grant.generation, firstTag: 0 });
  frame[Argument.flags] = grant.readOnly ? SessionFlag.readOnly : 0;
  frame.set(grant.life.subarray(0, nonceSize), Argument.life);
}

/** The grant in a response; undefined where it is none of ours. */
export function getGrant(frame: Uint8Array): SessionGrant | undefined {
  if (!isOurs(frame)) return undefined;
  const generation = getU16(frame, Argument.generation);
  if (generation === 0) return undefined;
  return {
    nonce: frame.slice(Argument.nonce, Argument.nonce + nonceSize),
    generation,
    life: frame.slice(Argument.life, Argument.life + nonceSize),
    readOnly: (frame[Argument.flags]! & SessionFlag.readOnly) !== 0,
  };
}

function isOurs(frame: Uint8Array): boolean {
  return frame.length >= Argument.size && magic.every((byte, index) => frame[Argument.magic + index] === byte);
}
