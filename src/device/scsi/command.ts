/** A command for a SCSI unit, its result, and the error that ends it. */
import type { Buffers } from '../../base/buffers.js';
import type { RequestOptions } from '../../block/device.js';
import type { BlockErrorKind } from '../../block/errors.js';
import { Scsi, Sense, type SenseCode } from '../../spec/scsi.js';

/** Ends a command with CHECK CONDITION. */
export class ScsiError extends Error {
  override readonly name = 'ScsiError';
  readonly sense: SenseCode;

  constructor(sense: SenseCode) {
    super(`sense ${sense.map((code) => code.toString(16)).join('/')}`);
    this.sense = sense;
  }
}

/** A command descriptor block (CDB) and the memory of its data. */
export interface ScsiCommand {
  /** 16 bytes; the bytes after the command's own length are undefined. */
  readonly cdb: DataView;
  readonly options: RequestOptions;
  /** Memory for exactly `length` bytes to the host. */
  toHost(length: number): Buffers;
  /** Memory for at most `length` bytes to the host: as many as the command describes. */
  toHostUpTo(length: number): Buffers;
  fromHost(length: number): Buffers;
}

/** Direction and number of bytes of a data transfer. */
export interface Transferred {
  readonly direction: 'in' | 'out' | 'none';
  readonly length: number;
}

export const nothing: Transferred = { direction: 'none', length: 0 };

/**
 * Returns `data` to the host, cut to the allocation length and to the memory that the command
 * describes.
 */
export function reply(command: ScsiCommand, data: Uint8Array, allocation: number): Transferred {
  const wanted = Math.min(data.length, allocation);
  if (wanted === 0) return nothing;
  const place = command.toHostUpTo(wanted);
  place.copyFrom(data.subarray(0, place.length), 0);
  return { direction: 'in', length: place.length };
}

const writing: ReadonlySet<number> = new Set([
  Scsi.write6,
  Scsi.write10,
  Scsi.write12,
  Scsi.write16,
  Scsi.synchronizeCache10,
  Scsi.synchronizeCache16,
]);

/** The sense code for the failure of a command on the medium. */
export function senseOf(kind: BlockErrorKind, opcode: number): SenseCode {
  switch (kind) {
    case 'range':
      return Sense.lbaOutOfRange;
    case 'read-only':
      return Sense.writeProtected;
    case 'no-space':
      return Sense.spaceAllocationFailed;
    case 'aborted':
    case 'unsupported':
      return Sense.aborted;
    default:
      return writing.has(opcode) ? Sense.writeError : Sense.unrecoveredRead;
  }
}
