/**
 * Byte streams: what a connection is to a protocol, whatever carries it (TCP, a unix socket, TLS, later a WebSocket).
 * Deliberately without promises: a protocol's parser is called with bytes as they come.
 */

/** What a stream tells the protocol on it. */
export interface StreamEvents {
  /**
   * Bytes arrived. The array is valid during the call only: what is kept must be copied.
   * @param headroom How many bytes before the chunk, in its buffer, may be overwritten during the call: what has been kept
   *   of earlier chunks can so be put in front of it. None where it is not said.
   */
  data(chunk: Uint8Array, headroom?: number): void;
  /** What was written has been handed over: after a `write` that returned false. */
  drain(): void;
  /** The stream is closed and will call nothing more; once. `error` where it did not end in good order. */
  closed(error?: Error): void;
}

export interface ByteStream {
  /** Who is at the other end, for messages: "127.0.0.1:10809". */
  readonly peer: string;
  /** Sets the receiver of events. Nothing is read before the first call; a later call replaces it. */
  attach(events: StreamEvents): void;
  /**
   * Sends the chunks in order. They must not change until they are handed over.
   * @returns false when more is waiting than the stream likes: wait for `drain`.
   */
  write(chunks: readonly Uint8Array[]): boolean;
  /**
   * Sends bytes of an open file, from its page cache (sendfile(2)). An offer: not every stream has it.
   * @returns how many were taken; 0 where that is none now, because more is waiting, or ever: `write` them then
   */
  sendFile?(fd: number, offset: number, length: number): number;
  /** Bytes accepted by `write` and not yet handed to the operating system. */
  readonly pending: number;
  /** Stops and restarts reading: back pressure to the peer. */
  pause(): void;
  resume(): void;
  /** Sends what is waiting, then closes. */
  end(): void;
  /** Closes at once; what is waiting is dropped, and the peer sees a reset where the transport has one. */
  destroy(): void;
}

/** A stream that has become encrypted, and who has proved to be at its other end. */
export interface SecuredStream {
  readonly stream: ByteStream;
  /** Names that the peer has proved to have: of its certificate, or of its key; none where nothing was asked of it. */
  readonly names: readonly string[];
}

/**
 * Encrypts a stream from its present place on (the TLS handshake); what was received before is not looked at. The stream
 * belongs to it from then on. Rejects with an Error that is fit for a user, or the signal's reason, when it is closed.
 */
export type Secure = (stream: ByteStream, signal: AbortSignal) => Promise<SecuredStream>;

/** A way to reach one peer. */
export interface Dialer {
  /** For messages: "nbd://127.0.0.1:10809". */
  readonly address: string;
  /** Connects. Rejects with an Error whose message is fit for a user ("connection refused"). */
  connect(signal: AbortSignal): Promise<ByteStream>;
}

/** A place where peers are accepted. */
export interface Listener {
  /** As a user would give it to a client, with the real port. */
  readonly address: string;
  /** Stops accepting; open streams go on. */
  close(): Promise<void>;
}
