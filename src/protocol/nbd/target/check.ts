/**
 * Checks requests before they reach the device, and chooses the error value ([NBD] and [EXT]
 * "Command flags", "Request types", "Error values").
 */
import { NbdCommand, CommandFlag, NbdError, TransmissionFlag, type HeaderStyle } from '../spec.js';
import { contextCount } from './contexts.js';
import type { Request } from './requests.js';

/** The negotiated facts that decide whether a request is valid. */
export interface Agreement {
  /** [NBD] "Transmission flags" as sent to the client. */
  readonly flags: number;
  /** Size of the export, in bytes. */
  readonly size: number;
  /**
   * The device's block size, in bytes. It may be smaller than the minimum that the client was told.
   */
  readonly minimum: number;
  readonly maximum: number;
  readonly style: HeaderStyle;
  /** True if the client selected a metadata context. */
  readonly contexts: boolean;
  /**
   * For a drive with a removable medium: the medium that all requests of the connection refer to.
   */
  readonly medium?: string | undefined;
}

const allowed: Readonly<Record<number, number>> = {
  [NbdCommand.read]: CommandFlag.df,
  [NbdCommand.write]: 0,
  [NbdCommand.disconnect]: 0,
  [NbdCommand.flush]: 0,
  [NbdCommand.trim]: 0,
  [NbdCommand.cache]: 0,
  [NbdCommand.writeZeroes]: CommandFlag.noHole | CommandFlag.fastZero,
  [NbdCommand.blockStatus]: CommandFlag.reqOne,
};

/** The reason to refuse a request: an error value, and a text for people. */
export interface Fault {
  readonly error: number;
  readonly text: string;
}

/**
 * Checks a request. Undefined if it is valid. If the range of a block status request is in its
 * payload, only the payload's length is checked here: see {@link statusFault}.
 */
export function faultOf(request: Request, agreed: Agreement): Fault | undefined {
  const { command, flags, offset, length } = request;
  let good = allowed[command];
  if (good === undefined) return { error: NbdError.invalid, text: `unknown command ${command}` };
  const writes = command === NbdCommand.write || command === NbdCommand.writeZeroes;
  if ((writes || command === NbdCommand.trim) && agreed.flags & TransmissionFlag.readOnly) {
    return { error: NbdError.perm, text: 'the export is read-only' };
  }
  if (agreed.flags & TransmissionFlag.sendFua) good |= CommandFlag.fua;
  if (agreed.style === 'simple') good &= ~CommandFlag.df;
  if (takesPayload(command, agreed)) good |= CommandFlag.payloadLength;
  if (flags & ~good)
    return { error: NbdError.invalid, text: `flags 0x${flags.toString(16)} do not go with this command` };
  if (!offered(command, agreed)) return { error: NbdError.invalid, text: 'the export does not offer this command' };
  if (command === NbdCommand.flush) {
    if (offset === 0 && length === 0) return undefined;
    return { error: NbdError.invalid, text: 'a flush has no range' };
  }
  if (command === NbdCommand.blockStatus) {
    return flags & CommandFlag.payloadLength ? queryFault(request) : statusFault(offset, length, agreed);
  }
  return rangeFault(command, offset, length, agreed);
}

/** Checks the range of a block status request. */
export function statusFault(offset: number, length: number, agreed: Agreement): Fault | undefined {
  if (length === 0) return { error: NbdError.invalid, text: 'the status of no bytes was asked for' };
  return rangeFault(NbdCommand.blockStatus, offset, length, agreed);
}

/** Longest accepted payload of a block status request, in bytes: a length and every context id. */
const maxQuery = 8 + 4 * contextCount;

function queryFault({ length }: Request): Fault | undefined {
  if (length >= 8 && length <= maxQuery && length % 4 === 0) return undefined;
  return { error: NbdError.invalid, text: `a block status request cannot have ${length} bytes of payload` };
}

/** [EXT] NBD_CMD_FLAG_PAYLOAD_LEN: true for the commands that accept it. */
function takesPayload(command: number, { style, flags }: Agreement): boolean {
  if (style !== 'extended') return false;
  if (command === NbdCommand.blockStatus) return (flags & TransmissionFlag.blockStatusPayload) !== 0;
  return command === NbdCommand.write;
}

function rangeFault(command: number, offset: number, length: number, agreed: Agreement): Fault | undefined {
  if (offset + length > agreed.size) {
    const grows = command === NbdCommand.write || command === NbdCommand.writeZeroes;
    const error = grows ? NbdError.noSpace : NbdError.invalid;
    return { error, text: `bytes ${offset}+${length} are beyond the end of the export (${agreed.size})` };
  }
  if (offset % agreed.minimum !== 0 || length % agreed.minimum !== 0) {
    return { error: NbdError.invalid, text: `bytes ${offset}+${length} are not whole blocks of ${agreed.minimum}` };
  }
  if (length > agreed.maximum && (command === NbdCommand.read || command === NbdCommand.write)) {
    const error = agreed.style !== 'simple' && command === NbdCommand.read ? NbdError.overflow : NbdError.invalid;
    return { error, text: `${length} bytes are more than ${agreed.maximum} in one request` };
  }
  return undefined;
}

function offered(command: number, agreed: Agreement): boolean {
  switch (command) {
    case NbdCommand.flush:
      return (agreed.flags & TransmissionFlag.sendFlush) !== 0;
    case NbdCommand.trim:
      return (agreed.flags & TransmissionFlag.sendTrim) !== 0;
    case NbdCommand.blockStatus:
      return agreed.contexts;
    default:
      return true;
  }
}
