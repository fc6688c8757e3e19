/**
 * Carries out the requests that move no data: flush, trim, write zeroes, cache, block status, and
 * our own command for removable media ([NBD] "Request types").
 */
import { buffersOf } from '../../../base/buffers.js';
import { NbdCommand, CommandFlag, NbdError } from '../spec.js';
import { parseQuery, type StatusQuery } from './status-query.js';
import { statusFault } from './check.js';
import { chosenIds } from './contexts.js';
import type { TransmissionContext } from './transmission-context.js';
import { actOnMedia } from './media.js';
import type { Piece } from './memory.js';
import { allocationOf, blockStatusReply, errorReply, longestStatus, successReply } from './replies.js';
import type { Request } from './requests.js';
import { traceFailed } from './trace.js';

/** The most that a CACHE request reads, and the size of each read, in bytes. */
const maxCached = 32 << 20;
const cachePiece = 1 << 20;

export class Operations {
  readonly #context: TransmissionContext;
  /** Number of block status requests at the device. */
  #statuses = 0;

  constructor(context: TransmissionContext) {
    this.#context = context;
  }

  /**
   * The memory that a request will take, in bytes, with the replies to come of block status
   * requests in flight: their length is known only when the device has answered, so the longest is
   * reserved for each.
   */
  memoryFor(command: number, length: number): number {
    const coming = this.#statuses * longestStatus;
    if (command === NbdCommand.blockStatus) return coming + longestStatus;
    return command === NbdCommand.cache ? coming + Math.min(length, cachePiece) : coming;
  }

  /** Carries out a request. Resolves with its reply; rejects with the device's error. */
  async perform(request: Request): Promise<Piece> {
    const { command, flags, offset, length } = request;
    const { arena, agreed, client, losses, plain, durable } = this.#context;
    const { device } = this.#context.export;
    const options = flags & CommandFlag.fua ? durable : plain;
    switch (command) {
      case NbdCommand.flush:
        await losses.flush(() => device.flush(plain));
        break;
      case NbdCommand.trim:
        await device.trim(offset, length, options);
        client.lastWrite = performance.now();
        break;
      case NbdCommand.cache:
        await this.#cache(offset, Math.min(length, maxCached));
        break;
      case NbdCommand.writeZeroes: {
        const noHole = (flags & CommandFlag.noHole) !== 0;
        const fastOnly = (flags & CommandFlag.fastZero) !== 0;
        await device.writeZeroes(offset, length, { ...options, noHole, fastOnly });
        client.lastWrite = performance.now();
        break;
      }
      case NbdCommand.blockStatus:
        this.#statuses++;
        return this.#status(request).finally(() => this.#statuses--);
      case NbdCommand.media:
        await actOnMedia(device.media, request, plain);
        break;
    }
    return successReply(arena, request, agreed.style, command === NbdCommand.read);
  }

  /** Reads a range, so that a device with a cache caches it. */
  async #cache(offset: number, length: number): Promise<void> {
    const { arena, plain } = this.#context;
    const { device } = this.#context.export;
    const piece = arena.take(Math.min(length, cachePiece));
    try {
      for (let done = 0; done < length; done += cachePiece) {
        const end = piece.start + Math.min(cachePiece, length - done);
        await device.read(offset + done, buffersOf(piece.slab.bytes.subarray(piece.start, end)), plain);
      }
    } finally {
      arena.release(piece);
    }
  }

  async #status(request: Request): Promise<Piece> {
    const { arena, agreed, plain } = this.#context;
    const { offset, payload } = request;
    const { allocation } = this.#context.contexts;
    const chosen = chosenIds(this.#context.contexts);
    let query: StatusQuery | undefined = { length: request.length, ids: chosen };
    if (payload) {
      query = parseQuery(payload.slab.bytes.subarray(payload.start, payload.end), chosen);
      arena.release(payload);
      if (!query) return this.#refusal(request, NbdError.invalid, 'contexts that were not agreed on, or one twice');
      const fault = statusFault(offset, query.length, agreed);
      if (fault) return this.#refusal(request, fault.error, fault.text);
    }
    const { length } = query;
    const contexts = [];
    for (const id of query.ids) {
      if (id !== allocation) {
        contexts.push({ id, descriptors: [[length, 0] as const] });
        continue;
      }
      const extents = await this.#context.export.device.extents(offset, length, plain);
      const one = (request.flags & CommandFlag.reqOne) !== 0;
      contexts.push({ id, descriptors: allocationOf(extents, offset, length, one) });
    }
    const { style } = agreed;
    // Contexts are never selected with simple replies.
    if (contexts.length === 0 || style === 'simple') return successReply(arena, request, style, false);
    return blockStatusReply(arena, request, style, contexts);
  }

  #refusal(request: Request, error: number, text: string): Piece {
    const { arena, agreed, steps } = this.#context;
    if (steps.on) traceFailed(steps, request, text);
    return errorReply(arena, request, agreed.style, error, text);
  }
}
