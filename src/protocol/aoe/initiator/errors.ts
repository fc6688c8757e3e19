/** Converts error answers of an AoE target to this project's errors. */
import { BlockError } from '../../../block/errors.js';
import { AtaError, AtaStatus } from '../../../spec/ata.js';
import { AoeError } from '../spec.js';
import type { CommandKind } from './command.js';

/** Text for an AoE error code ([AoE] 2.3). */
export function aoeErrorText(error: number): string {
  switch (error) {
    case AoeError.unknownCommand:
      return 'it does not know this command';
    case AoeError.badArgument:
      return 'bad argument';
    case AoeError.unavailable:
      return 'its device is not available';
    case AoeError.configPresent:
      return 'it has a config string already';
    case AoeError.badVersion:
      return 'it speaks another version of AoE';
    case AoeError.reserved:
      return 'it is reserved for other initiators';
    default:
      return `error ${error}`;
  }
}

/** The BlockError for an AoE error that answers a command. */
export function aoeError(error: number): BlockError {
  const kind = error === AoeError.unknownCommand ? 'unsupported' : 'io';
  return new BlockError(kind, `the target says: ${aoeErrorText(error)}`);
}

/**
 * The BlockError for the registers of an answer ([ATA] 6.2, 6.3); undefined if they report no
 * error.
 */
export function ataError(kind: CommandKind, status: number, error: number): BlockError | undefined {
  if ((status & (AtaStatus.error | AtaStatus.deviceFault)) === 0) return undefined;
  const registers = `status 0x${status.toString(16)}, error 0x${error.toString(16)}`;
  if (error & AtaError.idNotFound) return new BlockError('range', `the target has no such sectors (${registers})`);
  if (kind === 'write' && error & AtaError.writeProtected) {
    return new BlockError('read-only', `the target is write-protected (${registers})`);
  }
  return new BlockError('io', `the target's disk failed (${registers})`);
}
