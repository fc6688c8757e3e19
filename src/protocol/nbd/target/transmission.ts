/**
 * The transmission phase of one connection ([NBD] "Transmission").
 *
 * Requests run concurrently on the export's device and are answered in completion order. The number
 * of requests in flight and their memory are limited. At the limit the connection is not read, so
 * that a client with many requests, or one that does not read its replies, stalls only itself.
 *
 * Not here: how reads and writes reach the device (reads.ts, writes.ts), the other requests
 * (operations.ts), parsing (requests.ts), checks (check.ts), formats of replies (replies.ts).
 */
import { messageOf } from '../../../base/errors.js';
import type { Steps } from '../../../base/steps.js';
import type { RequestOptions } from '../../../block/device.js';
import { BlockError, blockErrorOf, type BlockErrorKind } from '../../../block/errors.js';
import { newClientCounters, type ClientCounters } from '../../../block/export-counters.js';
import { LossWatch } from '../../../block/losses.js';
import { NbdCommand, CommandFlag, NbdError } from '../spec.js';
import { faultOf, type Agreement } from './check.js';
import type { TransmissionContext } from './transmission-context.js';
import type { ChosenContexts } from './contexts.js';
import type { TargetExport } from './export.js';
import type { FileReply } from './file-reply.js';
import type { TargetLimits } from './limits.js';
import type { Arena, Piece } from './memory.js';
import { Operations } from './operations.js';
import type { Outbox } from './outbox.js';
import { Reads } from './reads.js';
import { errorReply } from './replies.js';
import { RequestReader, type Request, type RequestSink } from './requests.js';
import type { Stage, StageHost } from './stage.js';
import { traceArrived, traceBegun, traceFailed } from './trace.js';
import { Writes } from './writes.js';

/** Longest data of a refused write that is skipped, in bytes. A longer one ends the connection. */
const maxSkip = 64 << 20;
export class Transmission implements Stage, RequestSink {
  readonly #host: StageHost;
  readonly #export: TargetExport;
  readonly #client: ClientCounters;
  readonly #agreed: Agreement;
  readonly #contexts: ChosenContexts;
  readonly #limits: TargetLimits;
  readonly #arena: Arena;
  readonly #outbox: Outbox;
  readonly #steps: Steps;
  readonly #reader: RequestReader;
  readonly #giveUp = new AbortController();
  readonly #wake = (): void => {
    if (this.#reader.waiting) this.#host.wake();
  };
  readonly #reads: Reads;
  readonly #writes: Writes;
  readonly #operations: Operations;
  /** Number of requests at the device. */
  #running = 0;
  /** In 'draining' and 'ending', requests in flight are answered, then the connection closes. */
  #state: 'open' | 'draining' | 'ending' | 'closed' = 'open';
  #idle: (() => void)[] = [];

  constructor(
    host: StageHost,
    of: TargetExport,
    agreed: Agreement,
    contexts: ChosenContexts,
    losses = new LossWatch(of.device.losses),
  ) {
    this.#host = host;
    this.#export = of;
    this.#client = of.clientCounters ?? newClientCounters();
    this.#agreed = agreed;
    this.#contexts = contexts;
    this.#limits = host.limits;
    this.#arena = host.arena;
    this.#outbox = host.outbox;
    this.#steps = host.steps;
    this.#reader = new RequestReader(this, agreed.style === 'extended');
    const { medium } = agreed;
    const plain: RequestOptions = { signal: this.#giveUp.signal, ...(medium !== undefined && { medium }) };
    const context: TransmissionContext = {
      export: of,
      client: this.#client,
      agreed,
      contexts,
      losses,
      arena: host.arena,
      outbox: host.outbox,
      steps: host.steps,
      plain,
      durable: { ...plain, fua: true },
      finish: (reply, data) => this.#finish(reply, data),
      fail: (request, error) => this.#fail(request, error),
    };
    this.#reads = new Reads(context);
    this.#writes = new Writes(context);
    this.#operations = new Operations(context);
    of.counters.connections++;
  }

  get waiting(): boolean {
    return this.#reader.waiting;
  }

  receive(chunk: Uint8Array, at: number, headroom: number): number {
    return this.#reader.receive(chunk, at, headroom);
  }

  sent(): void {
    this.#wake();
    this.#endIfDone();
  }

  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'draining';
    // A write whose data is still arriving has not begun. It is refused like new requests.
    this.#endIfDone();
  }

  close(): Promise<void> {
    if (this.#state !== 'closed') {
      this.#state = 'closed';
      const { unfinished } = this.#reader;
      if (unfinished?.payload) this.#arena.release(unfinished.payload);
      this.#reader.stop();
      this.#arena.stopWaiting();
      this.#giveUp.abort(new BlockError('aborted', 'the client is gone'));
    }
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  hasRoom(command: number, length: number): boolean {
    if (this.#running + this.#outbox.unsent >= this.#limits.maxRequests) return false;
    if (this.#state !== 'open') return true;
    return this.#arena.admits(this.#memoryFor(command, length), this.#limits.maxBytes, this.#wake);
  }

  begin(request: Request, present: Uint8Array | undefined): boolean {
    this.#begin(request);
    const { command, payload } = request;
    if (!payload || !present || command !== NbdCommand.write || this.#state !== 'open') return false;
    const reply = this.#writes.present(request, payload, present);
    if (reply) this.#outbox.add(reply, this.#running > 0);
    return reply !== undefined;
  }

  #begin(request: Request): void {
    const { command, length, payloadLength } = request;
    if (command === NbdCommand.disconnect) return this.#disconnect();
    if (command === NbdCommand.write && payloadLength !== length) {
      // The next bytes could be data or a request, and a wrong guess would be dangerous.
      return this.broken('it sent a write without NBD_CMD_FLAG_PAYLOAD_LEN');
    }
    this.#export.counters.requests++;
    this.#client.requests++;
    if (this.#steps.on) traceArrived(this.#steps, request, this.#export.name);
    if (this.#state !== 'open') return this.#refuse(request, NbdError.shutdown, 'the server is being shut down');
    const plain = request.flags === 0 && length === 0;
    if (command === NbdCommand.media && plain && this.#contexts.media !== undefined) return this.#start(request);
    const fault = faultOf(request, this.#agreed);
    if (fault) {
      this.#refuse(request, fault.error, fault.text);
      const tolerated = this.#agreed.style === 'extended' ? this.#agreed.maximum : maxSkip;
      if (payloadLength > tolerated) this.broken('it sent an oversized write');
    } else if (payloadLength > 0) {
      request.payload = this.#arena.take(payloadLength);
      request.placing = command === NbdCommand.write && this.#writes.mayPlace(request);
    } else {
      this.#start(request);
    }
  }

  place(request: Request, bytes: Uint8Array): boolean {
    return this.#state === 'open' && this.#writes.place(request, bytes);
  }

  complete(request: Request): void {
    if (this.#state === 'open') return this.#start(request);
    this.#arena.release(request.payload!);
    this.#refuse(request, NbdError.shutdown, 'the server is being shut down');
  }

  broken(reason: string): void {
    this.#reader.stop();
    this.#host.fail(reason);
  }

  /**
   * The memory that a request will take, in bytes, not counting short replies. A refused request
   * takes none.
   */
  #memoryFor(command: number, length: number): number {
    const others = this.#operations.memoryFor(command, length);
    if ((command !== NbdCommand.read && command !== NbdCommand.write) || length > this.#agreed.maximum) return others;
    return others + length + (command === NbdCommand.read ? this.#reads.headerSize : 0);
  }

  /** [NBD] NBD_CMD_DISC: requests in flight are finished first. */
  #disconnect(): void {
    this.#state = 'ending';
    this.#reader.stop();
    this.#endIfDone();
  }

  #start(request: Request): void {
    this.#running++;
    if (this.#steps.on) traceBegun(this.#steps, request);
    const { command, payload, length } = request;
    if (command === NbdCommand.write && payload) return this.#writes.write(request, payload);
    if (command === NbdCommand.read && length > 0) return this.#reads.answer(request);
    this.#operations.perform(request).then(
      (reply) => this.#finish(reply),
      (error: unknown) => this.#fail(request, error),
    );
  }

  #finish(reply: Piece, data?: FileReply): void {
    this.#running--;
    if (data) this.#outbox.addFile(reply, data);
    else this.#outbox.add(reply, this.#running > 0);
    if (this.#running > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #fail(request: Request, error: unknown): void {
    const { kind, message } = blockErrorOf(error);
    const fast = request.command === NbdCommand.writeZeroes && (request.flags & CommandFlag.fastZero) !== 0;
    let value: number = kind === 'unsupported' && fast ? NbdError.notSupported : errorValues[kind];
    if (kind === 'no-medium' && this.#contexts.media !== undefined) value = NbdError.noMedium;
    this.#export.counters.errors++;
    this.#finish(this.#errorReply(request, value, message));
  }

  #refuse(request: Request, error: number, text: string): void {
    this.#export.counters.errors++;
    this.#outbox.add(this.#errorReply(request, error, text), true);
  }

  #errorReply(request: Request, error: number, text: string): Piece {
    if (this.#steps.on) traceFailed(this.#steps, request, text);
    return errorReply(this.#arena, request, this.#agreed.style, error, messageOf(text));
  }

  /**
   * Closes a connection that is draining or ending once every request is answered and every reply
   * sent.
   */
  #endIfDone(): void {
    if (this.#state === 'open' || this.#state === 'closed') return;
    if (this.#running === 0 && this.#outbox.unsent === 0) this.#host.end();
  }
}

/** Maps errors of devices to [NBD] "Error values". */
const errorValues: Readonly<Record<BlockErrorKind, number>> = {
  io: NbdError.io,
  'no-space': NbdError.noSpace,
  'read-only': NbdError.perm,
  range: NbdError.invalid,
  unsupported: NbdError.invalid,
  unreachable: NbdError.io,
  'no-medium': NbdError.io,
  aborted: NbdError.io,
  closed: NbdError.shutdown,
};
