/** One ATA command on its way: a part of a request that fits into one message. */
import type { Buffers } from '../../../base/buffers.js';
import type { RequestOptions } from '../../../block/device.js';
import type { BlockError } from '../../../block/errors.js';

export type CommandKind = 'read' | 'write' | 'flush';

/** A request of a caller, which its commands settle together. */
export class Request {
  readonly done: Promise<void>;
  readonly signal: AbortSignal | undefined;
  /** The guest's command that it is of, for `--trace`; 0: none. */
  readonly tag: number;
  #left: number;
  #resolve!: () => void;
  #reject!: (error: BlockError) => void;
  #error: BlockError | undefined;
  readonly #aborted: () => void;

  /** @param onAbort Called when the caller gives it up before it has settled. */
  constructor(commands: number, options: RequestOptions, onAbort: (request: Request) => void) {
    const { signal, tag = 0 } = options;
    this.#left = commands;
    this.signal = signal;
    this.tag = tag;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#aborted = () => onAbort(this);
    signal?.addEventListener('abort', this.#aborted);
  }

  /** One of its commands is over. It settles with the last one: nothing of it is under way then. */
  finish(error?: BlockError): void {
    this.#error ??= error;
    if (--this.#left > 0) return;
    this.signal?.removeEventListener('abort', this.#aborted);
    if (this.#error) this.#reject(this.#error);
    else this.#resolve();
  }
}

export class Command {
  readonly kind: CommandKind;
  readonly request: Request;
  /** AtaCommand. */
  readonly ata: number;
  readonly lba: number;
  /** Sectors. */
  readonly count: number;
  /** Where the data of a read go, or those of a write are; undefined for a flush. */
  readonly buffers: Buffers | undefined;
  /** Where its data begin in `buffers`, in bytes. */
  readonly at: number;
  readonly fua: boolean;

  /** The tag of all its copies; -1: not sent yet, or to be sent in a new session. */
  tag = -1;
  /** Copies sent under this tag, when the last one was, and how many others were sent before that. */
  copies = 0;
  sentAt = 0;
  order = 0;
  /** When its first copy under any tag was sent; undefined: never. */
  firstSentAt: number | undefined;
  /** Answers to what was sent after it. */
  overtaken = 0;
  /** Of a flush: how many acknowledged writes it covers. */
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

export interface CommandParts {
  readonly kind: CommandKind;
  readonly ata: number;
  readonly lba: number;
  readonly count: number;
  readonly buffers?: Buffers | undefined;
  readonly at: number;
  readonly fua: boolean;
}
