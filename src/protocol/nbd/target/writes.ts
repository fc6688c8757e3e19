/**
 * Carries out writes. The data goes to the device by the first way that applies:
 *
 * 1. A device with synchronous writes, which takes the data at once: straight from the receive
 *    buffer, for a short write when all of it has arrived, for a long write page by page as it
 *    arrives.
 * 2. Such a device, when the data had to be collected first: from the collected data.
 * 3. Any other write, and every write with FUA: from the collected data, when the device has
 *    written it.
 */
import { buffersOf } from '../../../base/buffers.js';
import type { DirectAccess } from '../../../block/direct.js';
import { CommandFlag } from '../spec.js';
import type { TransmissionContext } from './transmission-context.js';
import type { Piece } from './memory.js';
import { successReply } from './replies.js';
import { placedUnit, type Request } from './requests.js';
import { traceDone } from './trace.js';

/** Data of writes of at least this length goes to the device as it arrives. In bytes. */
const minPlaced = 1 << 16;

export class Writes {
  readonly #context: TransmissionContext;
  readonly #direct: DirectAccess | undefined;

  constructor(context: TransmissionContext) {
    this.#context = context;
    this.#direct = context.export.device.direct;
  }

  /**
   * True if a write's data may go to the device as it arrives, which saves a copy: long writes of
   * whole pages. If the client disconnects before the last byte, the write is partly done; that is
   * allowed because the write was never acknowledged.
   */
  mayPlace({ flags, offset, length }: Request): boolean {
    if (!this.#direct || length < minPlaced || (flags & CommandFlag.fua) !== 0) return false;
    const { blockSize } = this.#context.export.device.info;
    return blockSize <= placedUnit && offset % placedUnit === 0 && length % placedUnit === 0;
  }

  /** Passes the next bytes of a write to the device. Returns false if it does not take them now. */
  place({ offset, placed }: Request, bytes: Uint8Array): boolean {
    try {
      return this.#direct?.write(offset + placed, bytes) ?? false;
    } catch {
      // The write that follows, with the whole payload, fails with the same error.
      return false;
    }
  }

  /**
   * Carries out a write whose whole data is in the receive buffer.
   * @returns its reply; undefined if the data must be collected
   */
  present(request: Request, payload: Piece, bytes: Uint8Array): Piece | undefined {
    // Only writes of collected data report trace steps.
    if (!this.#direct || (request.flags & CommandFlag.fua) !== 0 || this.#context.steps.on) return undefined;
    return this.place(request, bytes) ? this.#done(request, payload) : undefined;
  }

  /** Carries out a write whose data has been collected. */
  write(request: Request, payload: Piece): void {
    const { arena, export: of, plain, durable } = this.#context;
    const { placed } = request;
    const fua = (request.flags & CommandFlag.fua) !== 0;
    const offset = request.offset + placed;
    const data = payload.slab.bytes.subarray(payload.start + placed, payload.end);
    const done = (): void => this.#context.finish(this.#done(request, payload));
    const failed = (error: unknown): void => {
      arena.abandon(payload);
      this.#context.fail(request, error);
    };
    try {
      if (data.length === 0 || (!fua && this.#direct?.write(offset, data))) return done();
    } catch (error) {
      return failed(error);
    }
    of.device.write(offset, buffersOf(data), fua ? durable : plain).then(done, failed);
  }

  #done(request: Request, payload: Piece): Piece {
    const { arena, agreed, steps, export: of, client } = this.#context;
    arena.release(payload);
    of.counters.bytesWritten += request.length;
    client.bytesWritten += request.length;
    client.lastWrite = performance.now();
    if (steps.on) traceDone(steps, request);
    return successReply(arena, request, agreed.style, false);
  }
}
