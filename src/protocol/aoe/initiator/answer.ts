/** What a target's answer to an ATA command says: [AoE] 2.3, 3.1, and our sessions (../session.ts). */
import { getU16 } from '../../../base/big-endian.js';
import type { BlockError } from '../../../block/errors.js';
import { unknownSession, type SessionGrant } from '../session.js';
import { AtaArgument, Flag, Header, sectorSize } from '../spec.js';
import type { Command } from './command.js';
import { aoeError, ataError } from './errors.js';

/** Undefined: it is done, and all its data are there. */
export type Answer = BlockError | 'malformed' | 'unknown session' | undefined;

export function readAnswer(
  frame: Uint8Array,
  flags: number,
  command: Command,
  grant: SessionGrant | undefined,
): Answer {
  if (frame.length < AtaArgument.size) return 'malformed';
  if (grant && getU16(frame, AtaArgument.reserved) !== grant.generation) return 'malformed';
  if (flags & Flag.error) {
    const error = frame[Header.error]!;
    return grant && error === unknownSession ? 'unknown session' : aoeError(error);
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
