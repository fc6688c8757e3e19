/**
 * The payload of a block status request ([EXT] NBD_CMD_BLOCK_STATUS): a length and the requested
 * contexts.
 */
import { getU32, getU64 } from '../../../base/big-endian.js';

export interface StatusQuery {
  /** Number of bytes, from the request's offset on. */
  readonly length: number;
  /** Ids of contexts that were selected in the handshake, without duplicates. */
  readonly ids: readonly number[];
}

/**
 * Parses a payload of 8 + 4 n bytes.
 * @param chosen ids of the contexts that were selected in the handshake
 * @returns undefined if the payload names a context that was not selected, or one twice
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
