/** Reads the body of an HTTP answer into memory. Trusts no length. */
import type { Buffers } from '../../base/buffers.js';
import { BlockError } from '../../block/errors.js';
import type { HttpResponse } from './exchange.js';

/**
 * Copies a body into `into`. A part that has arrived is good: the caller asks for the rest again.
 * @param heard called for each part that arrives
 * @returns the number of bytes that arrived; fewer than wanted if the connection ended early
 * @throws BlockError if the server sends more than it announced
 */
export async function readBody(response: HttpResponse, into: Buffers, heard: () => void): Promise<number> {
  let done = 0;
  try {
    for await (const part of response.body) {
      heard();
      if (done + part.length > into.length) {
        throw new BlockError('io', 'the server sends more bytes than it announced');
      }
      into.copyFrom(part, done);
      done += part.length;
    }
  } catch (error) {
    if (error instanceof BlockError || done === 0) throw error;
  }
  return done;
}
