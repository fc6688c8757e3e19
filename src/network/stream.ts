/**
 * Byte streams: the interface between a protocol and the transport of its connection (TCP, a unix
 * socket, TLS, a child process). It uses callbacks instead of promises, so that a parser receives
 * bytes as soon as they arrive.
 */
import type { Buffers } from '../base/buffers.js';

/** Events that a stream reports to its protocol. */
export interface StreamEvents {
  /**
   * Bytes have arrived. The array is valid during the call only: copy what must be kept.
   * @param headroom number of bytes before the chunk, in its ArrayBuffer, that may be overwritten
   * during the call; a parser can put the rest of an earlier chunk there. Default 0.
   */
  data(chunk: Uint8Array, headroom?: number): void;
  /** All written bytes have been handed over. Called only after a `write` that returned false. */
  drain(): void;
  /**
   * The stream is closed. The last call, made once. `error` is set unless it ended in good order.
   */
  closed(error?: Error): void;
}

/** A connection: bytes in both directions, in order. */
export interface ByteStream {
  /** The peer, for messages: "127.0.0.1:10809". */
  readonly peer: string;
  /**
   * Sets the receiver of events. Nothing is read before the first call; a later call replaces it.
   */
  attach(events: StreamEvents): void;
  /**
   * Sends the chunks in order. They must not change until they are handed over.
   * @returns false if more than the stream's high-water mark is waiting: the caller should wait for
   * `drain`
   */
  write(chunks: readonly Uint8Array[]): boolean;
  /**
   * Sends bytes of an open file from the page cache (sendfile(2)). Absent if the stream cannot.
   * @returns the number of bytes taken. 0 if none can be taken now (other bytes wait) or ever: use
   * `write` instead.
   */
  sendFile?(fd: number, offset: number, length: number): number;
  /**
   * Receives bytes [at, at + length) of `into`, without a copy, as far as they have arrived. Only
   * within {@link StreamEvents.data}, for the bytes that follow the chunk, and only if `into` has
   * `places`. Absent if the stream cannot.
   * @returns the number of bytes; 0 if none has arrived, or if the stream is at its end
   */
  receiveInto?(into: Buffers, at: number, length: number): number;
  /** Number of bytes accepted by `write` and not yet handed to the operating system. */
  readonly pending: number;
  /** Stops reading, which makes the peer wait (back pressure). */
  pause(): void;
  /** Continues reading. */
  resume(): void;
  /** Sends the waiting bytes, then closes. */
  end(): void;
  /**
   * Closes immediately and drops the waiting bytes. The peer sees a reset if the transport has one.
   */
  destroy(): void;
}

/** An encrypted stream and the authenticated names of its peer. */
export interface SecuredStream {
  /** The encrypted stream. */
  readonly stream: ByteStream;
  /**
   * Names of the peer's certificate, or the user name of its key. Empty if the peer was not asked
   * to authenticate.
   */
  readonly names: readonly string[];
}

/**
 * Runs the TLS handshake and encrypts the stream from its present position on. It takes over the
 * stream. If it fails, it closes the stream and rejects with an Error whose message is fit for a
 * user, or with the signal's reason.
 */
export type Secure = (stream: ByteStream, signal: AbortSignal) => Promise<SecuredStream>;

/** A way to reach one peer. */
export interface Dialer {
  /** For messages: "nbd://127.0.0.1:10809". */
  readonly address: string;
  /** Connects. Rejects with an Error whose message is fit for a user ("connection refused"). */
  connect(signal: AbortSignal): Promise<ByteStream>;
}

/** A place where connections are accepted. */
export interface Listener {
  /** The address as a user gives it to a client, with the actual port. */
  readonly address: string;
  /** Stops accepting. Open streams stay open. */
  close(): Promise<void>;
}
