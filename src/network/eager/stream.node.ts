/**
 * Eager streams: a wrapper that makes a plain socket faster for an exchange of requests and
 * answers. It sends and receives on the raw socket, keeps the event loop awake while the peer's
 * reaction is near, and lets many small requests come together. docs/performance.md ("What each
 * trick is worth") has the figures, and `node bench/nbd.mjs --peers plain` measures all together.
 *
 * The environment variable FARBUS_NO_EAGER turns all of it off (base/spin-wait.node.ts). The plain
 * stream then works alone; so it does without koffi, but for the spin wait.
 *
 * Not here: the system calls (raw-socket.node.ts); opening, closing and errors, which stay with the
 * plain stream (../socket.node.ts).
 */
import type { Socket } from 'node:net';
import { isEager, SpinWait } from '../../base/spin-wait.node.js';
import { headroom, type Releasable, type SocketStream } from '../socket.node.js';
import type { ByteStream, StreamEvents } from '../stream.js';
import { RawSocket } from './raw-socket.node.js';

/** Send buffer of unix sockets (docs/notes/sockets.md, "Send buffer"), in bytes. */
const sendSize = 4 << 20;
/**
 * Longest spin wait for the peer, in ms: about the time that a thread needs to fall asleep and wake
 * up (docs/notes/sockets.md, "Spin wait").
 */
const spinMs = 0.1;
/** Longest time that one stream keeps the event loop, in ms. Chosen, not measured. */
const stayMs = 2;
/**
 * Gathering: a client with many requests in flight gets many answers and soon sends as many new
 * requests. To receive and answer them together costs both sides less than one by one. So the
 * stream waits for half as many bytes as came last, but for at most `gatherMs` ms and at most
 * `enoughSize` bytes, and only if answering the last ones took less than `gatherMs`.
 */
const gatherMs = 0.1;
const enoughSize = 1 << 16;
/** Gather only if more than this is to be waited for, in bytes: an NBD request has 28 bytes. */
const soloSize = 28;
/** So many bytes in one receive are part of a longer transfer. */
const bulkSize = 1 << 16;
/**
 * A stream may keep the event loop if no other stream has received for this time, in ms. Chosen,
 * not measured.
 */
const aloneMs = 2;

/** The stream that received last, and since when it has been the only one. */
let latest: object | undefined;
let changed = 0;

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
  #paused = false;
  #blocked = false;
  /** True after `end`, the end of the stream, or {@link release}. */
  #over = false;
  /**
   * True while received bytes are handled: a write is now an answer, which the peer may follow with
   * its next request.
   */
  #receiving = false;
  /** True if the latest chunk has caused a write. */
  #answered = false;
  /** sendfile has failed: use write, which reports the error. */
  #noFiles = false;

  readonly #own: StreamEvents = {
    data: (chunk, room) => this.#received(chunk, room),
    drain: () => {
      this.#blocked = false;
      this.#events!.drain();
    },
    closed: (error) => {
      this.#over = true;
      this.#spin.end();
      this.#events!.closed(error);
    },
  };

  constructor(plain: SocketStream) {
    this.#plain = plain;
    if (plain.buffer) this.#raw = RawSocket.of(plain.socket);
    // TCP adapts its buffer itself.
    if (plain.socket.remoteFamily === undefined) this.#raw?.setSendBuffer(sendSize);
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

  /** If the parser throws, the plain stream closes the connection. */
  #received(chunk: Uint8Array, room: number | undefined): void {
    // Count the activity even if this stream cannot stay, because the others depend on it.
    const stay = alone(this) && this.#raw !== undefined;
    this.#receiving = true;
    // Reset: poll for more input only if this chunk causes a write.
    this.#answered = false;
    try {
      this.#deliver(chunk, room);
      if (stay) this.#stay(this.#raw!, this.#plain.buffer!, chunk.length >= bulkSize);
    } finally {
      this.#receiving = false;
    }
  }

  #deliver(chunk: Uint8Array, room: number | undefined): void {
    this.#spin.arrived();
    this.#events?.data(chunk, room);
  }

  /**
   * Polls the raw socket for the peer's reaction to what was just sent, for at most `stayMs`, while
   * no other stream is active.
   * @param bulk true if much has come: the peer is in the middle of a longer transfer
   */
  #stay(raw: RawSocket, buffer: Uint8Array, bulk: boolean): void {
    const began = performance.now();
    let wanted = 0;
    for (let now = began, since = now; now - began < stayMs; now = performance.now()) {
      if (this.#paused || this.#blocked || this.#over) return;
      if (wanted > soloSize && now - since < gatherMs && raw.available() < Math.min(wanted, enoughSize)) {
        nap();
        continue;
      }
      const count = raw.receive(buffer);
      if (count > 0) {
        this.#answered = false;
        this.#deliver(count === buffer.length ? buffer : buffer.subarray(0, count), headroom);
        since = performance.now();
        bulk = count >= bulkSize;
        // Answering took long, so both sides are busy: the event loop brings the next requests.
        if (!bulk && since - now > gatherMs) return;
        wanted = bulk ? 0 : count >> 1;
      } else if (bulk) {
        if (now - since > spinMs) return;
      } else if (!this.#answered || now - since > this.#spin.patience(now)) {
        return;
      }
    }
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const raw = this.#over || this.pending > 0 ? undefined : this.#raw;
    this.#blocked = !this.#plain.write(raw ? raw.sendAll(chunks) : chunks);
    this.#answered = true;
    this.#spin.sent(!this.#receiving);
    return !this.#blocked;
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

  pause(): void {
    this.#paused = true;
    this.#plain.pause();
  }

  resume(): void {
    this.#paused = false;
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

/**
 * Registers that `stream` has received. A stream that is alone active may keep the event loop for a
 * moment; several active streams share it.
 * @returns true if no other stream has received for `aloneMs`
 */
function alone(stream: object): boolean {
  const now = performance.now();
  if (latest !== stream) {
    latest = stream;
    changed = now;
  }
  return now - changed > aloneMs;
}

/** Length of a nap in ms. Linux wakes the thread up to 0.05 ms later (timer slack). */
const napMs = 0.005;
const bed = new Int32Array(new SharedArrayBuffer(4));

/**
 * Sleeps for less than 0.1 ms, which costs less processor time than polling. The timeout alone
 * wakes the thread.
 */
function nap(): void {
  Atomics.wait(bed, 0, 0, napMs);
}
