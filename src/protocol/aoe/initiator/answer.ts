/**
 * Parses the answer of a target to an ATA command: [AoE] 2.3, 3.1, and Farbus sessions
 * (../session.ts).
 */
import { getU16 } from '../../../base/big-endian.js';
import type { BlockError } from '../../../block/errors.js';
import { getSealedOfAnswer, getSealedOfRequest } from '../seal.js';
import { unknownSession, type SessionGrant } from '../session.js';
import { sectorSize } from '../../../spec/ata.js';
import { AoeError, AtaArgument, Flag, Header } from '../spec.js';
import { getAta } from '../wire.js';
import type { SentCommand } from './command.js';
import { aoeError, ataError } from './errors.js';

/**
 * The target says that it did not execute the command ([AoE] 2.3). Other copies may still be in
 * the network, and the target may execute those: the fault may have been in the one frame, or a
 * reservation may have ended by then.
 */
export class Refusal {
  readonly error: BlockError;

  constructor(error: BlockError) {
    this.error = error;
  }
}

/** Undefined: the command succeeded and all its data has arrived. */
export type Answer = BlockError | Refusal | 'malformed' | 'unknown session' | undefined;

/** Parses the answer to `command`. `grant` is the session that the command was sent in, if any. */
export function readAnswer(
  frame: Uint8Array,
  flags: number,
  command: SentCommand,
  grant: SessionGrant | undefined,
): Answer {
  if (frame.length < AtaArgument.size) return 'malformed';
  const isUnknown = (flags & Flag.error) !== 0 && frame[Header.error] === unknownSession;
  // An answer repeats the fields of its request. If the LBA differs, it answers another command.
  if (grant && (generationIn(frame, grant, isUnknown) !== grant.generation || getAta(frame).lba !== command.lba)) {
    return 'malformed';
  }
  if (flags & Flag.error) {
    const error = frame[Header.error]!;
    if (grant && isUnknown) return 'unknown session';
    // This error can occur after the command was started, so it is no refusal.
    return error === AoeError.unavailable ? aoeError(error) : new Refusal(aoeError(error));
  }
  const error = ataError(command.kind, frame[AtaArgument.command]!, frame[AtaArgument.feature]!);
  if (error) return error;
  const length = command.kind === 'read' ? command.count * sectorSize : 0;
  return frame.length < AtaArgument.size + length ? 'malformed' : undefined;
}

/** The generation in an answer. `isUnknown`: the target does not know the session. */
function generationIn(frame: Uint8Array, { sealed }: SessionGrant, isUnknown: boolean): number {
  if (!sealed) return getU16(frame, AtaArgument.reserved);
  return isUnknown ? getSealedOfRequest(frame) : getSealedOfAnswer(frame);
}

/** The data in the answer to a read. */
export function dataOf(frame: Uint8Array, { count }: SentCommand): Uint8Array {
  return frame.subarray(AtaArgument.size, AtaArgument.size + count * sectorSize);
}
