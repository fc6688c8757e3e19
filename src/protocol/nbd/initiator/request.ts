/** One request to an NBD server, from its caller to its reply, over as many connections as that takes. */
import { onAbort } from '../../../base/abort.js';
import type { Buffers } from '../../../base/buffers.js';
import { BlockError } from '../../../block/errors.js';
import { Command, CommandFlag } from '../spec.js';
import { Coverage } from './coverage.js';
import type { StatusRun } from './extents.js';

/** What is asked of the server. */
export interface Ask {
  /** [NBD] "Request types". */
  readonly type: number;
  /** [NBD] "Command flags". */
  readonly flags?: number;
  /** In bytes. */
  readonly offset: number;
  /** In bytes; below 2^32 where the server has no extended headers. */
  readonly length: number;
  /** Where the data of a read goes, or that of a write is. */
  readonly buffers?: Buffers;
  readonly signal?: AbortSignal | undefined;
  /** The command's tag for `--trace` (base/steps.ts). */
  readonly tag?: number | undefined;
  /** Of an export with a removable medium: the one that is meant. */
  readonly medium?: string | undefined;
}

export class NbdRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly buffers: Buffers | undefined;
  readonly tag: number;
  readonly medium: string | undefined;
  /** Settles with the request: rejects with a BlockError. */
  readonly done: Promise<void>;

  /** Its number on the present connection; -1 while it is not under way. */
  cookie = -1;
  /** When it was sent, and when it first lost its connection; ms of `performance.now()`. */
  sentAt = 0;
  lostAt: number | undefined;
  /** Of a flush: how many acknowledged writes it covers. */
  covers = 0;
  /** It was under way on a connection that was lost, and no later one has been let in: the server may still do it. */
  ghost = false;
  /** Sent by the connection itself; nobody waits for it. */
  internal = false;
  /** A pooled copy of its payload, while it is being sent. */
  payload: Uint8Array | undefined;
  /** What the server answered so far on the present connection. */
  error: BlockError | undefined;
  shutdown = false;
  readonly coverage = new Coverage();
  status: StatusRun[] | undefined;

  readonly #signal: AbortSignal | undefined;
  readonly #unwatch: () => void;
  #resolve!: () => void;
  #reject!: (error: BlockError) => void;

  /** @param givenUp Called when the caller gives the request up before it is settled. */
  constructor(ask: Ask, givenUp: (request: NbdRequest) => void) {
    this.type = ask.type;
    this.flags = ask.flags ?? 0;
    this.offset = ask.offset;
    this.length = ask.length;
    this.buffers = ask.buffers;
    this.tag = ask.tag ?? 0;
    this.medium = ask.medium;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = ask.signal;
    this.#unwatch = onAbort(ask.signal, () => givenUp(this));
  }

  /** Given up by its caller. */
  get aborted(): boolean {
    return this.#signal?.aborted ?? false;
  }

  /** Changes blocks in a way that a flush has to make durable. */
  get needsFlush(): boolean {
    return (this.type === Command.write || this.type === Command.writeZeroes) && !(this.flags & CommandFlag.fua);
  }

  /** Puts a part of the data of a read in its place, `at` bytes from its start. */
  place(bytes: Uint8Array, at: number): void {
    try {
      this.buffers!.copyFrom(bytes, at);
    } catch (error) {
      this.error ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
    }
  }

  placeZeroes(at: number, length: number): void {
    try {
      this.buffers!.zero(at, length);
    } catch (error) {
      this.error ??= new BlockError('io', 'the memory of the read is gone', { cause: error });
    }
  }

  /** Forgets its connection and what came over it, to be run again. */
  rewind(): void {
    this.cookie = -1;
    this.payload = undefined;
    this.error = undefined;
    this.shutdown = false;
    this.coverage.clear();
    this.status = undefined;
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
