/**
 * What a target sends: complete messages, collected and handed to the stream in few writes. While the stream has not
 * taken all of the last write, the rest waits here, so that its memory is known to be free as soon as the stream has.
 */
import { messageOf } from '../../../base/errors.js';
import { nextTurn } from '../../../base/turn.js';
import type { ByteStream } from '../../../network/stream.js';
import { FileReply } from './file-reply.js';
import type { Arena, Piece } from './memory.js';

/** Bytes that are worth a write of their own. */
const enough = 1 << 18;
/** Bytes in one write, but for the last piece of it: an encrypted stream makes a copy of all that it gets. */
const most = 1 << 22;

export class Outbox {
  #stream: ByteStream;
  readonly #arena: Arena;
  readonly #sent: () => void;
  readonly #broken: (reason: string) => void;
  #waiting: (Piece | FileReply)[] = [];
  /** Of the pieces among them. */
  #waitingBytes = 0;
  #onTheWay: Piece[] = [];
  #blocked = false;
  /** When the stream got what it has not taken yet, in ms of performance.now(). */
  #since = 0;
  /** The next bytes of a file are being read. */
  #loading = false;
  #scheduled = false;
  /** Whether more is to be expected from whoever is at work now. */
  #held = false;
  #closed = false;

  /**
   * @param sent Called when messages have left this process, or never will: {@link unsent} is lower.
   * @param broken Called when the rest of a message that has been begun cannot be had.
   */
  constructor(stream: ByteStream, arena: Arena, sent: () => void, broken: (reason: string) => void) {
    this.#stream = stream;
    this.#arena = arena;
    this.#sent = sent;
    this.#broken = broken;
  }

  /** Whether {@link addFile} saves anything. */
  get takesFiles(): boolean {
    return this.#stream.sendFile !== undefined;
  }

  /** Sends over another stream from now on; nothing may be {@link unsent}. */
  moveTo(stream: ByteStream): void {
    this.#stream = stream;
  }

  /** Messages that the operating system has not taken. */
  get unsent(): number {
    return this.#waiting.length + this.#onTheWay.length;
  }

  /** For how long the stream has not taken what it was given, in ms. */
  get stalledFor(): number {
    return this.#blocked ? performance.now() - this.#since : 0;
  }

  /**
   * Sends one message, soon. The piece is released when it has been sent.
   * @param more Whether further messages are to be expected in the same turn of the event loop.
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
      nextTurn(() => {
        this.#scheduled = false;
        this.flush();
      });
    }
  }

  /** Sends one message whose data come from a file, after its header. */
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

  /** Messages are to come until {@link letGo}: they go out together. */
  hold(): void {
    this.#held = true;
  }

  letGo(): void {
    this.#held = false;
    this.flush();
  }

  /** Sends what waits, unless the stream is still busy with what it got. */
  flush(): void {
    if (this.#blocked || this.#loading || this.#closed || this.#waiting.length === 0) return;
    do {
      const first = this.#waiting[0];
      if (!(first instanceof FileReply ? this.#sendFile(first) : this.#write(this.#take()))) return;
    } while (this.#waiting.length > 0);
    this.#sent();
  }

  /** Gives pieces to the stream. False if it has not taken all of them yet. */
  #write(pieces: Piece[]): boolean {
    if (!this.#stream.write(chunksOf(pieces))) {
      this.#onTheWay = pieces;
      this.#blocked = true;
      this.#since = performance.now();
      return false;
    }
    // A stream that likes to queue more than it has sent does not say when it is done with the memory.
    if (this.#stream.pending === 0) for (const piece of pieces) this.#arena.release(piece);
    else for (const piece of pieces) this.#arena.abandon(piece);
    return true;
  }

  /** Sends of the file's data, which are the next. False if the stream has not taken all that it was given. */
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

  /** What goes into the next write: pieces up to a file's data. */
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

  /** The stream has taken everything. */
  drained(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    const pieces = this.#onTheWay;
    this.#onTheWay = [];
    for (const piece of pieces) this.#arena.release(piece);
    this.flush();
    this.#sent();
  }

  /** The stream is gone: drops everything, now and later. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // The stream may hold on to what it got until it is collected itself.
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
  return `what it reads cannot be read to its end: ${messageOf(error)}`;
}

/** The bytes of the pieces, neighbours joined. */
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
