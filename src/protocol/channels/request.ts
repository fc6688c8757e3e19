/**
 * One request to a device on a server, from its caller to its answer, across as many connections as
 * that takes.
 */
import { onAbort } from '../../base/abort.js';
import type { Buffers } from '../../base/buffers.js';
import { BlockError } from '../../block/errors.js';

export type RemoteOperation = 'read' | 'write' | 'zero' | 'flush';

/** A request as the caller states it. */
export interface RemoteAsk {
  readonly op: RemoteOperation;
  /** In bytes. */
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
  /** Memory for the data of a read, or memory that holds the data of a write. */
  readonly buffers?: Buffers;
  readonly signal?: AbortSignal | undefined;
}

export class RemoteRequest {
  readonly op: RemoteOperation;
  readonly offset: number;
  readonly length: number;
  readonly buffers: Buffers | undefined;
  /** Settles with the request. Rejects with a BlockError. */
  readonly done: Promise<void>;

  /** Time at which it first lost its connection, in ms of `performance.now()`. */
  lostAt: number | undefined;
  /** How often it was sent again although its connection was not lost. */
  repeats = 0;
  /** For a flush: the number of acknowledged writes that it covers. */
  covers = 0;

  readonly #signal: AbortSignal | undefined;
  readonly #unwatch: () => void;
  #resolve!: () => void;
  #reject!: (error: BlockError) => void;

  /** @param givenUp called if the caller aborts the request before it is settled */
  constructor(ask: RemoteAsk, givenUp: (request: RemoteRequest) => void) {
    this.op = ask.op;
    this.offset = ask.offset;
    this.length = ask.length;
    this.buffers = ask.buffers;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = ask.signal;
    this.#unwatch = onAbort(ask.signal, () => givenUp(this));
  }

  get aborted(): boolean {
    return this.#signal?.aborted ?? false;
  }

  /** True if the request changes blocks. */
  get changes(): boolean {
    return this.op === 'write' || this.op === 'zero';
  }

  succeed(): void {
    this.#unwatch();
    this.#resolve();
  }

  fail(error: BlockError): void {
    this.#unwatch();
    this.#reject(error);
  }
}

/**
 * Waits until all parts are settled, then throws the first failure. So a failed request has no part
 * in flight.
 */
export async function allSettled(parts: readonly Promise<void>[]): Promise<void> {
  if (parts.length === 1) return parts[0];
  for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason;
}
