/** The payload of a block status request ([EXT] NBD_CMD_BLOCK_STATUS): which contexts are asked for, and over which length. */
import { getU32, getU64 } from '../wire.js';

export interface StatusQuery {
  /** Bytes from the request's offset on. */
  readonly length: number;
  /** Numbers of contexts that were chosen in the handshake, none of them twice. */
  readonly ids: readonly number[];
}

/**
 * Parses a payload of 8 + 4 n bytes.
 * @param chosen Numbers of the contexts that were chosen in the handshake.
 * @returns undefined where it names a context that was not chosen, or one twice.
 */
export function parseQuery(bytes: Uint8Array, chosen: readonly number[]): StatusQuery | undefined {
  const ids: number[] = [];
  for (let at = 8; at < bytes.length; at += 4) {
    const id = getU32(bytes, at);
    if (!chosen.includes(id) || ids.includes(id)) return undefined;
    ids.push(id);
  }
  return { length: getU64(bytes, 0), ids };
}
