/**
 * Answers reads. A read is answered by the first way that applies:
 *
 * 1. A long read of a device with file ranges, of data in the page cache, on a stream where that is
 *    faster (outbox.ts): the kernel sends it from there (sendfile(2), file-reply.ts).
 * 2. A device with synchronous reads, which has the data at once: into the memory of the reply.
 * 3. Any other read: into the memory of the reply, when the device has read it.
 */
import { buffersOf } from '../../../base/buffers.js';
import type { DirectAccess, FileRange, FileRanges } from '../../../block/direct.js';
import type { TransmissionContext } from './transmission-context.js';
import { FileReply } from './file-reply.js';
import type { Piece } from './memory.js';
import { putReadHeader, readHeaderSize } from './replies.js';
import type { Request } from './requests.js';
import { traceDone } from './trace.js';

/**
 * Reads of at least this length are sent from files. Shorter reads are copied in less time. In
 * bytes.
 */
const minFile = 1 << 17;

export class Reads {
  readonly #context: TransmissionContext;
  readonly #direct: DirectAccess | undefined;
  readonly #files: FileRanges | undefined;
  /** Length of the header before the data of a reply, in bytes. */
  readonly headerSize: number;

  constructor(context: TransmissionContext) {
    this.#context = context;
    this.#direct = context.export.device.direct;
    this.#files = context.export.device.files;
    this.headerSize = readHeaderSize(context.agreed.style);
  }

  /** Answers a read of at least one byte. */
  answer(request: Request): void {
    const { outbox, steps } = this.#context;
    const files = this.#files;
    // Only reads into memory report trace steps.
    if (files && request.length >= minFile && outbox.takesFiles && !steps.on) {
      const resident = residentOf(files, request);
      if (resident) return this.#sendFrom(resident, request);
      return this.#intoMemory(request, this.#roomFor(request));
    }
    const piece = this.#roomFor(request);
    try {
      if (this.#direct?.read(request.offset, this.#dataOf(piece))) return this.#read(request, piece);
    } catch (error) {
      return this.#failed(request, piece, error);
    }
    this.#intoMemory(request, piece);
  }

  #sendFrom(range: FileRange, request: Request): void {
    const { arena, agreed, plain, export: of, client } = this.#context;
    const { offset, length } = request;
    const header = arena.take(this.headerSize);
    putReadHeader(header, request, agreed.style);
    of.counters.bytesRead += length;
    client.bytesRead += length;
    this.#context.finish(header, new FileReply(of.device, range, offset, length, plain));
  }

  #intoMemory(request: Request, piece: Piece): void {
    const { export: of, plain } = this.#context;
    of.device.read(request.offset, buffersOf(this.#dataOf(piece)), plain).then(
      () => this.#read(request, piece),
      (error: unknown) => this.#failed(request, piece, error),
    );
  }

  #read(request: Request, piece: Piece): void {
    const { agreed, steps, export: of, client } = this.#context;
    putReadHeader(piece, request, agreed.style);
    of.counters.bytesRead += request.length;
    client.bytesRead += request.length;
    if (steps.on) traceDone(steps, request);
    this.#context.finish(piece);
  }

  #failed(request: Request, piece: Piece, error: unknown): void {
    this.#context.arena.abandon(piece);
    this.#context.fail(request, error);
  }

  #roomFor(request: Request): Piece {
    return this.#context.arena.take(this.headerSize + request.length);
  }

  #dataOf({ slab, start, end }: Piece): Uint8Array {
    return slab.bytes.subarray(start + this.headerSize, end);
  }
}

function residentOf(files: FileRanges, { offset, length }: Request): FileRange | undefined {
  try {
    return files.resident(offset, length);
  } catch {
    // The read that follows fails with the same error.
    return undefined;
  }
}
