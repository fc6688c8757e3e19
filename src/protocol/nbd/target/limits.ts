/** Bounds of what one connection may take, and their defaults. */

export interface TargetLimits {
  /** Time for the whole handshake, in ms; waiting for the server's own work is not counted. */
  readonly handshakeMs: number;
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
  maxOptions: 1024,
  maxOptionLength: 1 << 16,
  maxRequests: 1024,
  maxBytes: 16 << 20,
};
