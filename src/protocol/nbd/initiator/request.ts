/** One request to an NBD server, and the state of its sending and of its reply. */
import type { Buffers } from '../../../base/buffers.js';
import { BlockError } from '../../../block/errors.js';
import { PendingRequest } from '../../remote/pending-request.js';
import { NbdCommand, CommandFlag } from '../spec.js';
import { Coverage } from './coverage.js';
import type { StatusRun } from './extents.js';

/** A request as the caller states it. */
export interface Ask {
  /** [NBD] "Request types". */
  readonly type: number;
  /** [NBD] "Command flags". */
  readonly flags?: number;
  /** In bytes. */
  readonly offset: number;
  /** In bytes; below 2^32 unless the server has extended headers. */
  readonly length: number;
  /** Memory for the data of a read, or memory that holds the data of a write. */
  readonly buffers?: Buffers;
  readonly signal?: AbortSignal | undefined;
  /** The command's id in `--trace` (base/steps.ts). */
  readonly traceId?: number | undefined;
  /** For an export with a removable medium: the medium that the request is meant for. */
  readonly medium?: string | undefined;
}

export class NbdRequest extends PendingRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly buffers: Buffers | undefined;
  readonly traceId: number;
  readonly medium: string | undefined;

  /** The lower half of its cookie on the current connection; -1 while it is not in flight. */
  cookie = -1;
  /** The time at which it was sent, in ms of `performance.now()`. */
  sentAt = 0;
  /**
   * True if it was in flight on a lost connection and no later one has been admitted yet: the
   * server may still carry it out.
   */
  mayRun = false;
  /** Sent by the connection itself; it has no caller. */
  internal = false;
  /** A pooled copy of its payload, while that is being sent. */
  payload: Uint8Array | undefined;
  /** The parts of the reply received so far on the current connection. */
  error: BlockError | undefined;
  shutdown = false;
  readonly coverage = new Coverage();
  status: StatusRun[] | undefined;

  /** @param givenUp called if the caller aborts the request before it is settled */
  constructor(ask: Ask, givenUp: (request: NbdRequest) => void) {
    super(ask.signal, () => givenUp(this));
    this.type = ask.type;
    this.flags = ask.flags ?? 0;
    this.offset = ask.offset;
    this.length = ask.length;
    this.buffers = ask.buffers;
    this.traceId = ask.traceId ?? 0;
    this.medium = ask.medium;
  }

  /** True if the request changes blocks and needs a flush to be durable. */
  get needsFlush(): boolean {
    return (this.type === NbdCommand.write || this.type === NbdCommand.writeZeroes) && !(this.flags & CommandFlag.fua);
  }

  /** Copies data of a read into the caller's memory, `at` bytes from its start. */
  place(bytes: Uint8Array, at: number): void {
    try {
      this.buffers!.copyFrom(bytes, at);
    } catch (error) {
      this.error ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
    }
  }

  /** Calls `receive`, which puts data into the caller's memory. Returns the number of bytes. */
  receive(receive: () => number): number {
    try {
      return receive();
    } catch (error) {
      this.error ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
      return 0;
    }
  }

  placeZeroes(at: number, length: number): void {
    try {
      this.buffers!.zero(at, length);
    } catch (error) {
      this.error ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
    }
  }

  /**
   * Resets everything that belongs to the lost connection, so that the request can be sent again.
   */
  rewind(): void {
    this.cookie = -1;
    this.payload = undefined;
    this.error = undefined;
    this.shutdown = false;
    this.coverage.clear();
    this.status = undefined;
  }
}
