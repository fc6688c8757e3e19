/**
 * Raw socket: send(2), sendfile(2) and readv(2) on the descriptor of a connected net.Socket,
 * on the caller's thread and without waiting.
 *
 * Data that the operating system can take immediately need not pass through the event loop, which
 * costs several times as much as the call (docs/notes/sockets.md, "Raw socket"). On
 * EAGAIN the call is left to the net.Socket; the descriptor is unchanged.
 *
 * Linux with koffi only.
 */
import { constants } from 'node:os';
import type { Socket } from 'node:net';
import type { Buffers } from '../../base/buffers.js';
import { scatterIfAny } from '../../linux/scatter.node.js';
import { int32, SO_SNDBUF, socketCallsIfAny, SOL_SOCKET, type SocketCalls } from '../../linux/sockets.node.js';

const { EAGAIN, EINTR } = constants.errno;

/**
 * Consecutive chunks up to this length are copied together and sent with one call, in bytes.
 * Chosen, not measured.
 */
const shortSize = 256;
/**
 * Longest chunk that is sent here, in bytes. A longer one keeps the peer busy anyway: the socket
 * sends it. Chosen, not measured.
 */
const longSize = 1 << 18;
/** Scratch memory for short chunks. */
const gathered = new Uint8Array(1 << 14);
const nothing: readonly Uint8Array[] = [];
const isEmpty = (chunk: Uint8Array): boolean => chunk.length === 0;

interface Handle {
  readonly fd?: unknown;
}

/** The descriptor of a plain socket (not TLS) while it is open. */
export class RawSocket {
  readonly #socket: { readonly _handle?: Handle | null };
  readonly #handle: Handle;
  readonly #fd: number;
  readonly #calls: SocketCalls;

  private constructor(socket: Socket, handle: Handle, fd: number, calls: SocketCalls) {
    this.#socket = socket as unknown as { readonly _handle?: Handle | null };
    this.#handle = handle;
    this.#fd = fd;
    this.#calls = calls;
  }

  /**
   * Undefined if the descriptor or koffi is not available: the caller then uses the net.Socket,
   * which is slower.
   */
  static of(socket: Socket): RawSocket | undefined {
    const handle = (socket as unknown as { readonly _handle?: Handle | null })._handle;
    const fd = handle?.fd;
    if (typeof fd !== 'number' || fd < 0) return undefined;
    const calls = socketCallsIfAny();
    return calls && new RawSocket(socket, handle!, fd, calls);
  }

  /**
   * True while the socket has its descriptor. After a close the kernel may reuse the number for
   * another file.
   */
  get #open(): boolean {
    return this.#socket._handle === this.#handle;
  }

  /** Sets the size of the kernel's send buffer; at most net.core.wmem_max, doubled (socket(7)). */
  setSendBuffer(size: number): void {
    try {
      this.#calls.setOption(this.#fd, SOL_SOCKET, SO_SNDBUF, int32(size));
    } catch {
      // With a small buffer the stream is slower, and works.
    }
  }

  /**
   * Sends from the beginning of `bytes`. Call it only while no earlier write waits in the socket.
   * @param more true if further bytes follow immediately (MSG_MORE)
   * @returns the number of bytes taken. The caller writes the rest to the socket, which also
   * reports errors.
   */
  send(bytes: Uint8Array, more: boolean): number {
    return this.#open ? Math.max(0, this.#calls.send(this.#fd, bytes, more)) : 0;
  }

  /**
   * Sends as much of the chunks as the operating system takes.
   * @returns the chunks that the socket has to write
   */
  sendAll(all: readonly Uint8Array[]): readonly Uint8Array[] {
    const chunks = all.some(isEmpty) ? all.filter((chunk) => !isEmpty(chunk)) : all;
    const { length } = chunks;
    for (let i = 0; i < length;) {
      let chunk = chunks[i]!;
      if (chunk.length > longSize) return chunks.slice(i);
      let end = 0;
      // Gather a run of at least two short chunks.
      while (i < length && chunks[i]!.length <= Math.min(shortSize, gathered.length - end)) {
        if (end === 0 && (i + 1 === length || chunks[i + 1]!.length > shortSize)) break;
        gathered.set(chunks[i]!, end);
        end += chunks[i++]!.length;
      }
      if (end > 0) chunk = gathered.subarray(0, end);
      else i++;
      const taken = this.send(chunk, i < length);
      if (taken === chunk.length) continue;
      const rest = chunk.subarray(taken);
      return [end > 0 ? rest.slice() : rest, ...chunks.slice(i)];
    }
    return nothing;
  }

  /**
   * Sends from a file.
   * @returns the number of bytes taken; 0: none now; undefined: this file or socket cannot do it
   */
  sendFile(fd: number, offset: number, length: number): number | undefined {
    if (!this.#open) return 0;
    const count = this.#calls.sendFile(this.#fd, fd, offset, length);
    return count >= 0 ? count : count === -EAGAIN || count === -EINTR ? 0 : undefined;
  }

  /**
   * Receives bytes [at, at + length) of `into`, which has `places`, as far as they have arrived.
   * @returns the number of bytes; 0 if there are none now, and at the end of the stream and after
   * an error, which the socket finds and reports
   */
  receiveInto(into: Buffers, at: number, length: number): number {
    const scatter = scatterIfAny();
    if (!this.#open || !scatter || !into.places) return 0;
    scatter.clear();
    into.places(at, length, scatter.put);
    return Math.max(0, scatter.read(this.#fd));
  }
}
