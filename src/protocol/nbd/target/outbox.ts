/**
 * The outbox of a target: collects complete messages and hands them to the stream in few writes.
 *
 * It gives the stream one write at a time. While the stream has not taken all of it, further
 * messages wait here. So their memory can be reused as soon as the stream reports that it has
 * drained.
 */
import { messageOf } from '../../../base/errors.js';
import { nextIteration } from '../../../base/event-loop.js';
import type { ByteStream } from '../../../network/stream.js';
import { FileReply } from './file-reply.js';
import type { Arena, Piece } from './memory.js';

/** From this many waiting bytes on, write immediately. Chosen, not measured. */
const enough = 1 << 18;
/**
 * Most bytes in one write, except that the last piece may exceed it. An encrypted stream copies
 * everything that it is given.
 */
const most = 1 << 22;

/** Matches the peer of a TCP connection within this computer. */
const loopback = /^(127\.|\[(::ffff:127\.|::1\]))/;

export class Outbox {
  #stream: ByteStream;
  readonly #arena: Arena;
  readonly #sent: () => void;
  readonly #broken: (reason: string) => void;
  #waiting: (Piece | FileReply)[] = [];
  /** Total length of the pieces in `#waiting`, in bytes. */
  #waitingBytes = 0;
  #onTheWay: Piece[] = [];
  #blocked = false;
  /**
   * Time at which the stream got the write that it has not finished, in ms of performance.now().
   */
  #since = 0;
  /** True while the next bytes of a file are being read into memory. */
  #loading = false;
  #scheduled = false;
  /** True between {@link hold} and {@link letGo}: the caller will add more messages. */
  #held = false;
  #closed = false;

  /**
   * @param sent called when {@link unsent} has become lower: messages were sent or dropped
   * @param broken called if the rest of a message that was partly sent cannot be read
   */
  constructor(stream: ByteStream, arena: Arena, sent: () => void, broken: (reason: string) => void) {
    this.#stream = stream;
    this.#arena = arena;
    this.#sent = sent;
    this.#broken = broken;
  }

  /**
   * True if {@link addFile} is faster on this stream than a message. Over TCP within this computer
   * it is not, because the kernel wakes the client for each 64 KiB. Measured by fio, 1 MiB reads at
   * depth 8, file against message: 0.71 over TCP loopback, 3.0 over a unix socket.
   */
  get takesFiles(): boolean {
    return this.#stream.sendFile !== undefined && !loopback.test(this.#stream.peer);
  }

  /** Switches to another stream. No message may be {@link unsent}. */
  moveTo(stream: ByteStream): void {
    this.#stream = stream;
  }

  /** The number of messages that the operating system has not taken yet. */
  get unsent(): number {
    return this.#waiting.length + this.#onTheWay.length;
  }

  /** The time for which the stream has not taken the last write, in ms; 0 if it has. */
  get stalledFor(): number {
    return this.#blocked ? performance.now() - this.#since : 0;
  }

  /**
   * Queues one message and sends it soon. The piece is released when the stream has taken it.
   * @param more true if the caller expects further messages in the same iteration of the event loop
   */
  add(piece: Piece, more: boolean): void {
    if (this.#closed) {
      this.#arena.release(piece);
      this.#sent();
      return;
    }
    this.#waiting.push(piece);
    this.#waitingBytes += piece.end - piece.start;
    if (this.#waitingBytes >= enough || !(more || this.#held)) {
      this.flush();
    } else if (!this.#scheduled && !this.#held) {
      this.#scheduled = true;
      nextIteration(() => {
        this.#scheduled = false;
        this.flush();
      });
    }
  }

  /** Queues one message: a header from memory, then data from a file. */
  addFile(header: Piece, data: FileReply): void {
    if (this.#closed) {
      this.#arena.release(header);
      data.release();
      this.#sent();
      return;
    }
    this.#waiting.push(header, data);
    this.#waitingBytes += header.end - header.start;
    this.flush();
  }

  /** Collects messages until {@link letGo}, then sends them together. */
  hold(): void {
    this.#held = true;
  }

  letGo(): void {
    this.#held = false;
    this.flush();
  }

  /** Sends the waiting messages, unless the stream is still busy with the last write. */
  flush(): void {
    if (this.#blocked || this.#loading || this.#closed || this.#waiting.length === 0) return;
    do {
      const first = this.#waiting[0];
      if (!(first instanceof FileReply ? this.#sendFile(first) : this.#write(this.#take()))) return;
    } while (this.#waiting.length > 0);
    this.#sent();
  }

  /** Writes pieces to the stream. Returns false if it has not taken all of them yet. */
  #write(pieces: Piece[]): boolean {
    if (!this.#stream.write(chunksOf(pieces))) {
      this.#onTheWay = pieces;
      this.#blocked = true;
      this.#since = performance.now();
      return false;
    }
    // The stream took the write but still queues part of it, and sends no `drain` event for that.
    // So the end of its use of the memory is unknown: do not reuse the memory.
    if (this.#stream.pending === 0) for (const piece of pieces) this.#arena.release(piece);
    else for (const piece of pieces) this.#arena.abandon(piece);
    return true;
  }

  /**
   * Sends data of a file, which is first in the queue. Returns false if the stream is still busy.
   */
  #sendFile(data: FileReply): boolean {
    data.send(this.#stream);
    if (data.left === 0) return this.#fileSent(data);
    try {
      const loaded = data.load(this.#arena);
      if (!(loaded instanceof Promise)) return this.#sendLoaded(data, loaded);
      this.#loading = true;
      loaded.then(
        (piece) => {
          this.#loading = false;
          if (this.#closed) this.#arena.release(piece);
          else if (this.#sendLoaded(data, piece)) this.flush();
        },
        (error: unknown) => this.#broken(cut(error)),
      );
    } catch (error) {
      this.#broken(cut(error));
    }
    return false;
  }

  #sendLoaded(data: FileReply, piece: Piece): boolean {
    if (data.left === 0) this.#fileSent(data);
    return this.#write([piece]);
  }

  #fileSent(data: FileReply): true {
    this.#waiting.shift();
    data.release();
    return true;
  }

  /** Removes the pieces for the next write: up to `most` bytes, or up to the next file data. */
  #take(): Piece[] {
    const pieces: Piece[] = [];
    let bytes = 0;
    for (const item of this.#waiting) {
      if (item instanceof FileReply || bytes >= most) break;
      pieces.push(item);
      bytes += item.end - item.start;
    }
    this.#waiting = pieces.length === this.#waiting.length ? [] : this.#waiting.slice(pieces.length);
    this.#waitingBytes -= bytes;
    return pieces;
  }

  /** Handles the stream's `drain` event: it has taken everything. */
  drained(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    const pieces = this.#onTheWay;
    this.#onTheWay = [];
    for (const piece of pieces) this.#arena.release(piece);
    this.flush();
    this.#sent();
  }

  /** Drops all messages, waiting and future: the stream is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // The stream may still reference what it was given: do not reuse the memory.
    for (const piece of this.#onTheWay) this.#arena.abandon(piece);
    for (const item of this.#waiting) {
      if (item instanceof FileReply) item.release();
      else this.#arena.release(item);
    }
    this.#onTheWay = [];
    this.#waiting = [];
    this.#sent();
  }
}

function cut(error: unknown): string {
  return `its read cannot be completed: ${messageOf(error)}`;
}

/** The byte ranges of the pieces. Adjacent pieces become one chunk. */
function chunksOf(pieces: readonly Piece[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let { slab, start, end } = pieces[0]!;
  for (let i = 1; i < pieces.length; i++) {
    const piece = pieces[i]!;
    if (piece.slab === slab && piece.start === end) {
      end = piece.end;
      continue;
    }
    chunks.push(slab.bytes.subarray(start, end));
    ({ slab, start, end } = piece);
  }
  chunks.push(slab.bytes.subarray(start, end));
  return chunks;
}
