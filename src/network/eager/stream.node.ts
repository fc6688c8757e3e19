/**
 * Eager streams: a wrapper that makes a plain socket faster for an exchange of requests and
 * answers. It sends on the raw socket, sends file ranges by sendfile(2), receives long payloads
 * straight into the caller's memory by readv(2), gives unix sockets a large send buffer, and keeps
 * the event loop awake while the peer's reaction is near.
 * docs/notes/sockets.md ("What each trick is worth") has the figures, also of tricks that were
 * removed because they were worth nothing; `node bench/nbd.mjs --peers plain` measures the whole.
 *
 * The environment variable FARBUS_NO_EAGER turns all of it off (base/spin-wait.node.ts). The plain
 * stream then works alone; so it does without koffi, but for the spin wait.
 *
 * Not here: the system calls (raw-socket.node.ts); opening, closing and errors, which stay with the
 * plain stream (../socket.node.ts).
 */
import type { Socket } from 'node:net';
import type { Buffers } from '../../base/buffers.js';
import { isEager, SpinWait } from '../../base/spin-wait.node.js';
import type { Releasable, SocketStream } from '../socket.node.js';
import type { ByteStream, StreamEvents } from '../stream.js';
import { RawSocket } from './raw-socket.node.js';

/** Send buffer of unix sockets (docs/notes/sockets.md, "Send buffer"), in bytes. */
const sendSize = 4 << 20;
/**
 * Longest spin wait for the peer, in ms: about the time that a thread needs to fall asleep and wake
 * up (docs/notes/sockets.md, "Spin wait").
 */
const spinMs = 0.1;

/** Makes a stream eager, unless that is turned off. */
export function eager(stream: SocketStream): ByteStream & Releasable {
  return isEager() ? new EagerStream(stream) : stream;
}

export class EagerStream implements ByteStream, Releasable {
  readonly #plain: SocketStream;
  /** Undefined for an encrypted stream, and without koffi: only the spin wait is then left. */
  readonly #raw: RawSocket | undefined;
  readonly #spin = new SpinWait(spinMs);
  #events: StreamEvents | undefined;
  /** True after `end`, the end of the stream, or {@link release}. */
  #over = false;
  /** sendfile has failed: use write, which reports the error. */
  #noFiles = false;

  readonly #own: StreamEvents = {
    data: (chunk, room) => {
      this.#spin.arrived();
      // Only a call of `receiveInto` for this chunk asks for the small buffer again.
      this.#plain.expectsRest = false;
      this.#events!.data(chunk, room);
    },
    drain: () => this.#events!.drain(),
    closed: (error) => {
      this.#over = true;
      this.#spin.end();
      this.#events!.closed(error);
    },
  };

  constructor(plain: SocketStream) {
    this.#plain = plain;
    const socket = plain.unencrypted;
    this.#raw = socket && RawSocket.of(socket);
    // TCP adapts its buffer itself.
    if (socket?.remoteFamily === undefined) this.#raw?.setSendBuffer(sendSize);
  }

  get peer(): string {
    return this.#plain.peer;
  }

  get pending(): number {
    return this.#plain.pending;
  }

  attach(events: StreamEvents): void {
    this.#events = events;
    this.#plain.attach(this.#own);
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.#over) return this.#plain.write(chunks);
    const left = this.#raw && this.pending === 0 ? this.#raw.sendAll(chunks) : chunks;
    const room = this.#plain.write(left);
    this.#spin.sent();
    return room;
  }

  /** Undefined without a raw socket, or after sendfile has failed. */
  get sendFile(): ((fd: number, offset: number, length: number) => number) | undefined {
    return this.#raw && !this.#noFiles ? this.#sendFile : undefined;
  }

  readonly #sendFile = (fd: number, offset: number, length: number): number => {
    if (this.#over || this.pending > 0) return 0;
    const count = this.#raw!.sendFile(fd, offset, length);
    if (count === undefined) this.#noFiles = true;
    // Tells the plain stream that the peer takes data. No spin wait: the client is busy with these
    // bytes, and its next request comes later.
    else if (count > 0) this.#plain.write([]);
    return count ?? 0;
  };

  /** Undefined without a raw socket. */
  get receiveInto(): ((into: Buffers, at: number, length: number) => number) | undefined {
    return this.#raw && this.#receiveInto;
  }

  readonly #receiveInto = (into: Buffers, at: number, length: number): number => {
    if (this.#over) return 0;
    const count = this.#raw!.receiveInto(into, at, length);
    this.#plain.expectsRest = count < length;
    return count;
  };

  pause(): void {
    this.#plain.pause();
  }

  resume(): void {
    this.#plain.resume();
  }

  end(): void {
    this.#over = true;
    this.#plain.end();
  }

  destroy(): void {
    this.#over = true;
    this.#plain.destroy();
  }

  release(): Socket | undefined {
    this.#over = true;
    this.#spin.end();
    return this.#plain.release();
  }
}
