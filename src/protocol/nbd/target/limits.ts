/**
 * Limits of the resources that one connection may take, and their defaults. The defaults are
 * chosen, not measured.
 */

export interface TargetLimits {
  /** Time that the client has for the whole handshake, including TLS, in ms. */
  readonly handshakeMs: number;
  /**
   * Time that the server may take for its own work during the handshake, in ms: waiting for earlier
   * connections of the session and for slow devices.
   */
  readonly handshakeWorkMs: number;
  /** Most options in one handshake. */
  readonly maxOptions: number;
  /**
   * Longest option data that is read, in bytes. Longer data is skipped and answered with an error.
   */
  readonly maxOptionLength: number;
  /** Most requests that have begun and whose replies have not been sent. */
  readonly maxRequests: number;
  /**
   * Most memory for data in flight, in bytes: received writes and unsent replies. A single request
   * may exceed it if it is alone.
   */
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
