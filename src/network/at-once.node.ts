/**
 * send(2) and recv(2) on a connected net.Socket's own descriptor, on the caller's thread and without waiting: what the
 * operating system takes or has at once need not pass the event loop, which costs several times as much as the call.
 * What cannot be had at once is left to the socket, which finds the descriptor as if nothing had been. Linux with koffi
 * only ([FIND] 7).
 */
import { constants } from 'node:os';
import type { Socket } from 'node:net';
import { native, systemError, type Native } from './ethernet/native.node.js';

const { EAGAIN, EINTR } = constants.errno;

/** Chunks up to this length, in bytes, are copied together rather than sent one by one. */
const shortSize = 256;
/** Longest chunk that is sent here, in bytes: a longer one keeps the peer busy, and whoever hands it over may go on. */
const longSize = 1 << 18;
const gathered = new Uint8Array(1 << 14);
const nothing: readonly Uint8Array[] = [];
const isEmpty = (chunk: Uint8Array): boolean => chunk.length === 0;

interface Handle {
  readonly fd?: unknown;
}

/** The descriptor of a plain socket (not TLS), for as long as it is open. */
export class AtOnce {
  readonly #socket: { readonly _handle?: Handle | null };
  readonly #handle: Handle;
  readonly #fd: number;
  readonly #calls: Native;

  private constructor(socket: Socket, handle: Handle, fd: number, calls: Native) {
    this.#socket = socket as unknown as { readonly _handle?: Handle | null };
    this.#handle = handle;
    this.#fd = fd;
    this.#calls = calls;
  }

  /** Undefined where it cannot be had: the socket is then used as Node has it, slower. */
  static of(socket: Socket): AtOnce | undefined {
    const handle = (socket as unknown as { readonly _handle?: Handle | null })._handle;
    const fd = handle?.fd;
    if (typeof fd !== 'number' || fd < 0) return undefined;
    try {
      return new AtOnce(socket, handle!, fd, native(''));
    } catch {
      return undefined;
    }
  }

  /** The descriptor is this socket's and open: a closed one's number may be another's. */
  get #open(): boolean {
    return this.#socket._handle === this.#handle;
  }

  /**
   * Sends from the beginning of `bytes`; nothing of earlier writes may be waiting in the socket.
   * @param more Whether further bytes follow at once.
   * @returns how many were taken; the rest is for the socket, which also finds out about errors.
   */
  send(bytes: Uint8Array, more: boolean): number {
    return this.#open ? Math.max(0, this.#calls.send(this.#fd, bytes, more)) : 0;
  }

  /** Sends what the operating system takes of all the chunks. @returns what it does not, or is better left to the socket. */
  sendAll(all: readonly Uint8Array[]): readonly Uint8Array[] {
    const chunks = all.some(isEmpty) ? all.filter((chunk) => !isEmpty(chunk)) : all;
    const { length } = chunks;
    for (let i = 0; i < length;) {
      let chunk = chunks[i]!;
      if (chunk.length > longSize) return chunks.slice(i);
      let end = 0;
      // The first of several short ones begins a run of them.
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

  /** Sends from a file. @returns how many bytes were taken: 0 where that is none now, and undefined where it never will be. */
  sendFile(fd: number, offset: number, length: number): number | undefined {
    if (!this.#open) return 0;
    const count = this.#calls.sendFile(this.#fd, fd, offset, length);
    return count >= 0 ? count : count === -EAGAIN || count === -EINTR ? 0 : undefined;
  }

  /** Bytes that {@link receive} would have now. */
  available(): number {
    return this.#open ? this.#calls.available(this.#fd) : 0;
  }

  /**
   * Receives what there is.
   * @returns how many bytes; 0 where there are none now, or the stream has ended: the socket will tell.
   * @throws an error with an errno `code`: the connection is broken, and only this call has been told.
   */
  receive(into: Uint8Array): number {
    if (!this.#open) return 0;
    const count = this.#calls.receive(this.#fd, into);
    if (count >= 0 || count === -EAGAIN || count === -EINTR) return Math.max(0, count);
    throw systemError('recv', -count);
  }
}

/** How long no other stream must have received before one stays, in ms. */
const aloneMs = 2;
let latest: object | undefined;
let changed = 0;

/**
 * Called when `stream` has received: one stream alone may keep the event loop for a moment, several take turns in it.
 * @returns whether no other has received anything for some time.
 */
export function alone(stream: object): boolean {
  const now = performance.now();
  if (latest !== stream) {
    latest = stream;
    changed = now;
  }
  return now - changed > aloneMs;
}

/** How long a nap is meant to be, in ms; Linux lets a thread oversleep by a twentieth of one. */
const napMs = 0.005;
const bed = new Int32Array(new SharedArrayBuffer(4));

/** Sleeps for a moment, less than a tenth of a ms, instead of looking again and again; nobody has to wake this thread. */
export function nap(): void {
  Atomics.wait(bed, 0, 0, napMs);
}
