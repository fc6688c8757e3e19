/** What a target's answer to an ATA command says: [AoE] 2.3, 3.1, and our sessions (../session.ts). */
import { getU16 } from '../../../base/big-endian.js';
import type { BlockError } from '../../../block/errors.js';
import { unknownSession, type SessionGrant } from '../session.js';
import { AoeError, AtaArgument, Flag, Header, sectorSize } from '../spec.js';
import { getAta } from '../wire.js';
import type { Command } from './command.js';
import { aoeError, ataError } from './errors.js';

/**
 * The target says that it has not carried the command out ([AoE] 2.3). Other copies of it may still be on their way, and
 * the target may carry those out: what was wrong may have been the frame, or a reservation that is over by then.
 */
export class Refusal {
  readonly error: BlockError;

  constructor(error: BlockError) {
    this.error = error;
  }
}

/** Undefined: it is done, and all its data are there. */
export type Answer = BlockError | Refusal | 'malformed' | 'unknown session' | undefined;

export function readAnswer(
  frame: Uint8Array,
  flags: number,
  command: Command,
  grant: SessionGrant | undefined,
): Answer {
  if (frame.length < AtaArgument.size) return 'malformed';
  // An answer begins as its request does. One that names other sectors is not the answer to this command.
  if (grant && (getU16(frame, AtaArgument.reserved) !== grant.generation || getAta(frame).lba !== command.lba)) {
    return 'malformed';
  }
  if (flags & Flag.error) {
    const error = frame[Header.error]!;
    if (grant && error === unknownSession) return 'unknown session';
    // What comes after the command was begun is no refusal.
    return error === AoeError.unavailable ? aoeError(error) : new Refusal(aoeError(error));
  }
  const error = ataError(command.kind, frame[AtaArgument.command]!, frame[AtaArgument.feature]!);
  if (error) return error;
  const length = command.kind === 'read' ? command.count * sectorSize : 0;
  return frame.length < AtaArgument.size + length ? 'malformed' : undefined;
}

/** The data of a read's answer. */
export function dataOf(frame: Uint8Array, { count }: Command): Uint8Array {
  return frame.subarray(AtaArgument.size, AtaArgument.size + count * sectorSize);
}
