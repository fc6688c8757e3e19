/**
 * TCP and unix sockets as byte streams, on Node's net module.
 *
 * Bytes are received into one buffer that all sockets of a thread and kind share (`onread` of net.Socket), so that receiving
 * allocates next to nothing and one system call takes much. That is sound where libuv reads only when a descriptor
 * is ready and calls back before it reads the next, which is everywhere but on Windows; there, each socket has a
 * buffer of its own. TLS is in tls.node.ts.
 */
import { connect, Socket, type SocketConstructorOpts } from 'node:net';
import { FarbusError, errnoOf, messageOf } from '../base/errors.js';
import { alone, AtOnce, nap } from './at-once.node.js';
import { native, SO_SNDBUF, SOL_SOCKET } from './ethernet/native.node.js';
import type { ByteStream, StreamEvents } from './stream.js';
import { Vigil } from '../base/vigil.node.js';

/** Where a peer is: a TCP port or a unix socket's path. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** Size of the receive buffer that accepted sockets share, in bytes: the longest run that `data` can get at once. */
const acceptSize = 1 << 20;
/**
 * The same of dialled sockets. What they receive is copied on at once, so it pays that the buffer stays in the processor's
 * cache and that the sender's window opens early: 1 MiB reads over TCP loopback were 1.5 to 1.8 times as fast as with
 * 1 MiB here; over unix sockets the size made no difference.
 */
const dialSize = 1 << 16;
/** Send buffer of unix sockets, in bytes. */
const sendSize = 4 << 20;
/** Bytes that may wait in a socket before `write` asks the writer to hold back, where nothing else is said. */
const defaultHighWater = 4 << 20;
/** How long a socket that was ended may hand nothing over to the peer before it is destroyed, in ms. */
const lingerMs = 10_000;
/** Idle time before TCP probes whether the peer still exists, in ms. */
const keepAliveMs = 30_000;

/** How long a wait for the other side is spent awake at most, in ms: about what going to sleep and waking up takes. */
const vigilMs = 0.1;
/** How long one stream may keep the event loop, in ms. */
const stayMs = 2;
/**
 * A client that had many requests under way gets many answers and soon has as many requests again: taken and answered
 * together they cost both sides less than one by one. So half as many bytes are waited for as came last, where answering
 * those took less than `gatherMs`, and no longer than that; no more than `enoughSize`, and none for a short request alone.
 */
const gatherMs = 0.1;
const enoughSize = 1 << 16;
const soloSize = 28;
/** As much at once is part of something longer, in bytes. */
const bulkSize = 1 << 16;
/** Bytes before the receive buffers for whoever wants to put something in front of a chunk: a page. */
const headroom = 4096;
const shared = new Map<number, Uint8Array>();

function receiveBuffer(size: number): Uint8Array {
  if (process.platform === 'win32') return new Uint8Array(headroom + (1 << 16)).subarray(headroom);
  const buffer = shared.get(size) ?? new Uint8Array(headroom + size).subarray(headroom);
  shared.set(size, buffer);
  return buffer;
}

/** A receiver that can be named before its stream exists: net.Socket wants its `onread` when it is made. */
class Receiver {
  stream: SocketStream | undefined;
  readonly onread: { readonly buffer: Uint8Array; readonly callback: (length: number, buffer: Uint8Array) => boolean };

  /** @param size Of the buffer, which all receivers of this size share. */
  constructor(size: number) {
    this.onread = {
      buffer: receiveBuffer(size),
      callback: (length, buffer) => {
        this.stream?.receive(length === buffer.length ? buffer : buffer.subarray(0, length));
        return true;
      },
    };
  }
}

export interface SocketStreamOptions {
  /** Whether bytes come as 'data' events; otherwise somebody calls {@link SocketStream.receive}. Default true. */
  readonly plain?: boolean;
  /** Bytes that may wait in the socket before `write` asks the writer to hold back. */
  readonly highWater?: number;
  /** An error of the socket as a user should see it. */
  readonly explain?: (error: Error) => Error;
  /** How what is below an encrypted socket is closed at once. */
  readonly reset?: () => void;
  /** Where what is received is put, whose `receive` is called with it: the socket is not encrypted. */
  readonly buffer?: Uint8Array;
}

/** A connected net.Socket as a {@link ByteStream}. Made by {@link dialSocket} and {@link acceptSocket}. */
export class SocketStream implements ByteStream {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #highWater: number;
  readonly #reset: (() => void) | undefined;
  readonly #listeners: [event: string, listener: (argument: unknown) => void][];
  #events: StreamEvents | undefined;
  #paused = false;
  #blocked = false;
  #ended = false;
  #closed = false;
  #error: Error | undefined;
  readonly #vigil = new Vigil(vigilMs);
  readonly #buffer: Uint8Array | undefined;
  readonly #atOnce: AtOnce | undefined;
  /** Within {@link receive}: what is written now is an answer, to which another request may come at once. */
  #receiving = false;
  #answered = false;
  /** Calls that sent something, and the timer that looks at it once the stream has ended. */
  #sent = 0;
  #lingering: ReturnType<typeof setInterval> | undefined;
  /** It cannot be sent from files: what it was that stood in the way, writing will tell. */
  #noFiles = false;

  /** @param socket A connected socket that is paused. If it was made without `onread`, its 'data' events are used. */
  constructor(
    socket: Socket,
    peer: string,
    { plain = true, highWater = defaultHighWater, reset, explain, buffer }: SocketStreamOptions = {},
  ) {
    this.#buffer = buffer;
    if (buffer) this.#atOnce = AtOnce.of(socket);
    this.peer = peer;
    this.#socket = socket;
    this.#highWater = highWater;
    this.#reset = reset;
    this.#listeners = [
      ['end', () => this.#linger()],
      ['error', (error) => this.#failed(explain ? explain(error as Error) : (error as Error))],
      ['close', () => this.#onClose()],
    ];
    if (plain) this.#listeners.push(['data', (chunk) => this.receive(chunk as Uint8Array)]);
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
    // A 'data' listener sets a socket flowing.
    if (plain) socket.pause();
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
  }

  get pending(): number {
    return this.#socket.writableLength;
  }

  attach(events: StreamEvents): void {
    this.#events = events;
    if (this.#closed) {
      queueMicrotask(() => events.closed(this.#error));
    } else if (!this.#paused) {
      this.#socket.resume();
    }
  }

  /** Hands received bytes on, until the stream is ended or destroyed. For the socket's own callback. */
  receive(chunk: Uint8Array): void {
    if (this.#ended || this.#socket.destroyed) return;
    // Who cannot stay is somebody all the same.
    const stay = alone(this) && this.#atOnce !== undefined;
    this.#receiving = true;
    // What was answered before is not what this asks for: without an answer it is not the other side's turn.
    this.#answered = false;
    try {
      this.#deliver(chunk);
      if (stay) this.#stay(this.#atOnce!, this.#buffer!, chunk.length >= bulkSize);
    } catch (error) {
      // A parser that throws has lost its place: this connection cannot go on, all others can.
      this.#error ??= error instanceof Error ? error : new Error(messageOf(error));
      this.destroy();
    }
    this.#receiving = false;
  }

  #deliver(chunk: Uint8Array): void {
    this.#vigil.arrived();
    this.#events?.data(chunk, this.#buffer && headroom);
  }

  /**
   * Takes what comes in answer to what was just sent, as long as it comes at once and nobody else has anything to do.
   * @param bulk Whether much came: the other side is in the middle of something, and has more.
   */
  #stay(atOnce: AtOnce, buffer: Uint8Array, bulk: boolean): void {
    const began = performance.now();
    let wanted = 0;
    for (let now = began, since = now; now - began < stayMs; now = performance.now()) {
      // After a release the socket is another's.
      if (this.#paused || this.#blocked || this.#ended || this.#closed || this.#socket.destroyed) return;
      if (wanted > soloSize && now - since < gatherMs && atOnce.available() < Math.min(wanted, enoughSize)) {
        nap();
        continue;
      }
      const count = atOnce.receive(buffer);
      if (count > 0) {
        this.#answered = false;
        this.#deliver(count === buffer.length ? buffer : buffer.subarray(0, count));
        since = performance.now();
        bulk = count >= bulkSize;
        // Many short ones keep both sides busy, and the loop brings the next.
        if (!bulk && since - now > gatherMs) return;
        wanted = bulk ? 0 : count >> 1;
      } else if (bulk) {
        if (now - since > vigilMs) return;
      } else if (!this.#answered || now - since > this.#vigil.patience(now)) {
        return;
      }
    }
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const socket = this.#socket;
    if (this.#closed || !socket.writable) return true;
    const left = this.#atOnce && socket.writableLength === 0 ? this.#atOnce.sendAll(chunks) : chunks;
    this.#sent++;
    const last = left.length - 1;
    if (last > 0) socket.cork();
    for (let i = 0; i < last; i++) socket.write(left[i]!);
    if (last >= 0) socket.write(left[last]!, this.#written);
    if (last > 0) socket.uncork();
    this.#answered = true;
    this.#vigil.sent(!this.#receiving);
    this.#blocked = socket.writableLength > this.#highWater;
    return !this.#blocked;
  }

  /** Of plain sockets whose descriptor can be had; see {@link ByteStream.sendFile}. */
  get sendFile(): ((fd: number, offset: number, length: number) => number) | undefined {
    return this.#atOnce && !this.#noFiles ? this.#sendFile : undefined;
  }

  readonly #sendFile = (fd: number, offset: number, length: number): number => {
    const socket = this.#socket;
    if (this.#closed || !socket.writable || socket.writableLength > 0) return 0;
    const count = this.#atOnce!.sendFile(fd, offset, length);
    if (count === undefined) this.#noFiles = true;
    else if (count > 0) this.#sent++;
    // That keeps the client busy: its next request is not waited for awake, and comes with others when it does.
    return count ?? 0;
  };

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#events && !this.#closed) this.#socket.resume();
  }

  end(): void {
    this.#ended = true;
    this.#socket.end();
    this.#linger();
  }

  destroy(): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    // A reset, where the transport has one, tells the peer that this was not the end of a conversation.
    if (this.#reset) {
      this.#reset();
      socket.destroy();
    } else if (socket.remoteFamily === undefined) socket.destroy();
    else socket.resetAndDestroy();
  }

  /**
   * Gives the socket to another owner, TLS: nothing more is called here. Bytes that the socket holds are the new owner's.
   * @returns The socket, paused; undefined if it is closed.
   */
  release(): Socket | undefined {
    if (this.#closed || this.#socket.destroyed) return undefined;
    this.#closed = true;
    this.#events = undefined;
    clearInterval(this.#lingering);
    for (const [event, listener] of this.#listeners) this.#socket.off(event, listener);
    this.#socket.pause();
    return this.#socket;
  }

  /**
   * From now on a peer that takes nothing and does not hang up either is cut off after a while. What it sends does not
   * count: it could keep the socket open for ever with a byte now and then.
   */
  #linger(): void {
    // The peer's hanging up is seen only by reading.
    this.#socket.resume();
    if (this.#lingering !== undefined) return;
    let pending = this.pending;
    let sent = this.#sent;
    const look = (): void => {
      if (this.pending >= pending && this.#sent === sent) return this.destroy();
      pending = this.pending;
      sent = this.#sent;
    };
    this.#lingering = setInterval(look, lingerMs).unref();
  }

  /**
   * The last chunk of a write has been handed over, or never will be. Not the socket's 'drain' event, which does not come
   * where less was waiting than the socket's own high-water mark.
   */
  readonly #written = (): void => {
    if (!this.#blocked || this.#closed || this.#socket.writableLength > 0) return;
    this.#blocked = false;
    this.#events?.drain();
  };

  /** Node leaves a TLS socket open on which what came was not TLS: nothing that it carries can be right any more. */
  #failed(error: Error): void {
    this.#error ??= error;
    this.destroy();
  }

  #onClose(): void {
    this.#closed = true;
    clearInterval(this.#lingering);
    this.#vigil.end();
    this.#events?.closed(this.#error);
  }
}

/** Longest path of a unix socket, in bytes (unix(7), sockaddr_un, without its final NUL). */
const maxSocketPath = 107;

/** Libuv cuts a path that is too long, and would use another socket. @throws FarbusError */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= maxSocketPath) return;
  throw new FarbusError(
    `the path of a unix socket has at most ${maxSocketPath} bytes, and ${path} has ${Buffer.byteLength(path)}: choose a shorter one`,
  );
}

/**
 * Connects to a peer. Rejects with a FarbusError that names the address, or with the signal's reason.
 */
export function dialSocket(to: SocketAddress, signal: AbortSignal): Promise<SocketStream> {
  const name = nameOf(to);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(asError(signal.reason));
    if ('path' in to) checkSocketPath(to.path);
    const receiver = new Receiver(dialSize);
    const socket = connect({ ...to, onread: receiver.onread });
    socket.pause();
    const stop = (error: Error) => {
      signal.removeEventListener('abort', abort);
      socket.off('error', fail);
      // Whatever it still says, nobody is interested.
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const abort = () => stop(asError(signal.reason));
    const fail = (error: Error) => stop(new FarbusError(explain(name, error), { cause: error }));
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      signal.removeEventListener('abort', abort);
      socket.off('error', fail);
      if ('path' in to) widen(socket);
      receiver.stream = new SocketStream(socket, name, { plain: false, buffer: receiver.onread.buffer });
      resolve(receiver.stream);
    });
  });
}

/**
 * A stream over a socket that a net.Server with `pauseOnConnect` accepted. Its `write` returns false until everything
 * has been handed to the operating system: a server reuses the memory then.
 */
export function acceptSocket(socket: Socket): SocketStream {
  const { remoteAddress, remotePort } = socket;
  const peer = remoteAddress === undefined ? 'a unix socket' : hostPort(remoteAddress, remotePort ?? 0);
  const receiver = new Receiver(acceptSize);
  if (remoteAddress === undefined) widen(socket);
  const own = withReceiver(socket, receiver);
  if (!own) return new SocketStream(socket, peer, { highWater: 0 });
  return (receiver.stream = new SocketStream(own, peer, {
    plain: false,
    highWater: 0,
    buffer: receiver.onread.buffer,
  }));
}

/**
 * Gives a unix socket room for a long reply, so that the server need not be woken for each piece that the client takes
 * (socket(7); the system's limit is net.core.wmem_max). TCP finds its own size.
 */
function widen(socket: Socket): void {
  const { fd } = (socket as unknown as { _handle?: { fd?: unknown } | null })._handle ?? {};
  if (typeof fd !== 'number' || fd < 0) return;
  try {
    native('').setOption(fd, SOL_SOCKET, SO_SNDBUF, new Uint8Array(Int32Array.of(sendSize).buffer));
  } catch {
    // Without koffi it works as well, with more wake-ups.
  }
}

/**
 * The connection of an accepted socket in a socket with a buffer of ours: net.Server has no option for that, so the
 * handle moves, which net.Socket's own constructor allows. Undefined where this Node does it otherwise: the socket is
 * then used as it is, with an allocation for each read.
 */
function withReceiver(socket: Socket, { onread }: Receiver): Socket | undefined {
  const from = socket as unknown as { _handle?: { useUserBuffer?: unknown } | null };
  const handle = from._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  from._handle = null;
  const options = { handle, onread, pauseOnCreate: true, readable: true, writable: true };
  return new Socket(options as unknown as SocketConstructorOpts);
}

/** "host:port", with an IPv6 address in brackets. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function nameOf(to: SocketAddress): string {
  return 'path' in to ? to.path : hostPort(to.host, to.port);
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(messageOf(reason));
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: is a server listening there?',
  ENOENT: 'there is no such socket: is a server listening there?',
  ENOTFOUND: 'no such host: check its name',
  EAI_AGAIN: 'the name could not be resolved: check the network',
  EHOSTUNREACH: 'host unreachable: check the network',
  ENETUNREACH: 'network unreachable: check the network',
  ETIMEDOUT: 'no answer: check the address and firewalls in between',
  EACCES: 'permission denied: check the permissions of the socket',
};

function explain(name: string, error: Error): string {
  return `cannot connect to ${name}: ${reasons[errnoOf(error) ?? ''] ?? messageOf(error)}`;
}
