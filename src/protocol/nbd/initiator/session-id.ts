/** Ids of sessions (spec.ts, sessionContext), and numbers of their connections. */
import { hexOf } from '../../../base/hex.js';

/**
 * The number of a session's first connection is a random number up to this one, so that connections
 * of different clients to one server seldom have the same number.
 */
const maxFirstId = 2 ** 20;

/** A random UUID, version 4. Not crypto.randomUUID: browsers have that on secure pages only. */
export function newSessionId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = hexOf(bytes);
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** The number of a session's first connection; later connections count up from it. */
export function firstConnectionId(): number {
  return 1 + (crypto.getRandomValues(new Uint32Array(1))[0]! % maxFirstId);
}
