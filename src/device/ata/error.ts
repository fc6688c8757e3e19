/**
 * Errors of ATA commands: the status and error registers (ATA8-ACS 6.2, 6.3), and the sense data
 * for them (ACS-3 4.19).
 */
import type { BlockErrorKind } from '../../block/errors.js';
import { AtaError, AtaStatus } from '../../spec/ata.js';
import { Sense, type SenseCode } from '../../spec/scsi.js';

/** An error that ends a command. */
export class AtaCommandError extends Error {
  override readonly name = 'AtaCommandError';
  /** Error register. */
  readonly error: number;
  /** Bits to set in the status register besides ERR. */
  readonly status: number;
  readonly sense: SenseCode;

  constructor(error: number, sense: SenseCode = Sense.noSense, status = 0) {
    super(`ATA error 0x${error.toString(16)}`);
    this.error = error;
    this.status = status;
    this.sense = sense;
  }
}

/**
 * The ATA error for a block error. ATA has no error bits for a full or read-only medium, so sense
 * data reports those.
 */
export function ataErrorOf(kind: BlockErrorKind, writing: boolean): AtaCommandError {
  switch (kind) {
    case 'range':
      return new AtaCommandError(AtaError.idNotFound, Sense.lbaOutOfRange);
    case 'read-only':
      return new AtaCommandError(AtaError.abort, Sense.writeProtected);
    case 'no-space':
      return new AtaCommandError(AtaError.abort, Sense.spaceAllocationFailed);
    case 'unsupported':
    case 'aborted':
      return new AtaCommandError(AtaError.abort, Sense.aborted);
    case 'no-medium':
    case 'unreachable':
    case 'closed':
    case 'io':
      if (!writing) return new AtaCommandError(AtaError.uncorrectable, Sense.unrecoveredRead);
      return new AtaCommandError(AtaError.abort, Sense.writeError, AtaStatus.deviceFault);
  }
}
