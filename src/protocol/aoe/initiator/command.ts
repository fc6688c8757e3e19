/**
 * ATA commands in flight, and the requests they are part of. A command is the part of a request
 * that fits into one message.
 */
import type { Buffers } from '../../../base/buffers.js';
import type { RequestOptions } from '../../../block/device.js';
import type { BlockError } from '../../../block/errors.js';
import { PendingRequest } from '../../remote/pending-request.js';

export type CommandKind = 'read' | 'write' | 'flush';

/** A caller's request. It settles when all its commands have ended. */
export class Request extends PendingRequest {
  /** The guest's command in `--trace`; 0 for none. */
  readonly traceId: number;
  #left: number;
  #error: BlockError | undefined;

  /** @param aborted called if the caller aborts the request before it settles */
  constructor(commands: number, { signal, traceId = 0 }: RequestOptions, aborted: (request: Request) => void) {
    super(signal, () => aborted(this));
    this.#left = commands;
    this.traceId = traceId;
  }

  /**
   * One of its commands has ended. The request settles with the last one, so that none is in flight
   * then.
   */
  finish(error?: BlockError): void {
    this.#error ??= error;
    if (--this.#left > 0) return;
    if (this.#error) this.fail(this.#error);
    else this.succeed();
  }
}

/** A part of a request that fits into one message, with the state of its sending. */
export class SentCommand {
  readonly kind: CommandKind;
  readonly request: Request;
  /** AtaCommand. */
  readonly ata: number;
  readonly lba: number;
  /** Sectors. */
  readonly count: number;
  /** Receives the data of a read, or holds that of a write; undefined for a flush. */
  readonly buffers: Buffers | undefined;
  /** Offset of its data in `buffers`, in bytes. */
  readonly at: number;
  readonly fua: boolean;

  /** Tag of all its copies; -1 if not sent yet or to be sent again in a new session. */
  tag = -1;
  /**
   * Copies sent with this tag, the time of the last one, and that copy's number in the order of all
   * messages sent.
   */
  copies = 0;
  sentAt = 0;
  order = 0;
  /**
   * Time of the first copy with any tag, in ms of the exchange's clock, moved by the times for
   * which the target was lost; undefined if never sent.
   */
  firstSentAt: number | undefined;
  /** Number of answers to commands sent after its last copy. */
  overtaken = 0;
  /** For a flush: the number of acknowledged writes that it makes durable. */
  covers = 0;

  constructor(request: Request, what: CommandParts) {
    this.request = request;
    this.kind = what.kind;
    this.ata = what.ata;
    this.lba = what.lba;
    this.count = what.count;
    this.buffers = what.buffers;
    this.at = what.at;
    this.fua = what.fua;
  }
}

/** The parts of a command; {@link SentCommand} explains them. */
export interface CommandParts {
  readonly kind: CommandKind;
  readonly ata: number;
  readonly lba: number;
  readonly count: number;
  readonly buffers?: Buffers | undefined;
  readonly at: number;
  readonly fua: boolean;
}
