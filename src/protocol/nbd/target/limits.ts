/** Bounds of what one connection may take, and their defaults. */

export interface TargetLimits {
  /** Time that the client has for the whole handshake, TLS included, in ms. */
  readonly handshakeMs: number;
  /** Time that the server may take for its own work in it, in ms: earlier connections of the session, slow devices. */
  readonly handshakeWorkMs: number;
  /** Options in one handshake. */
  readonly maxOptions: number;
  /** Data of one option that is read, in bytes. More is skipped and answered with an error. */
  readonly maxOptionLength: number;
  /** Requests begun whose replies have not been sent. */
  readonly maxRequests: number;
  /** Bytes of memory held for data under way: writes received, replies not yet sent. One request may exceed it, alone. */
  readonly maxBytes: number;
}

export const defaultLimits: TargetLimits = {
  handshakeMs: 30_000,
  handshakeWorkMs: 60_000,
  maxOptions: 1024,
  maxOptionLength: 1 << 14,
  maxRequests: 1024,
  maxBytes: 16 << 20,
};
