/** One request to a device on a server without Farbus. */
import type { Buffers } from '../../base/buffers.js';
import { PendingRequest } from '../remote/pending-request.js';

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

export class RemoteRequest extends PendingRequest {
  readonly op: RemoteOperation;
  readonly offset: number;
  readonly length: number;
  readonly buffers: Buffers | undefined;
  /** How often it was sent again although its connection was not lost. */
  repeats = 0;

  /** @param givenUp called if the caller aborts the request before it is settled */
  constructor(ask: RemoteAsk, givenUp: (request: RemoteRequest) => void) {
    super(ask.signal, () => givenUp(this));
    this.op = ask.op;
    this.offset = ask.offset;
    this.length = ask.length;
    this.buffers = ask.buffers;
  }

  /** True if the request changes blocks. */
  get changes(): boolean {
    return this.op === 'write' || this.op === 'zero';
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
