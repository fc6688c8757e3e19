/**
 * Serves exports by AoE on an Ethernet segment: the adapter between exports and the AoE target.
 *
 * AoE has no connections, no names and no encryption, so exports with one writer, a rate limit or
 * TLS cannot be served by it.
 */
import { FarbusError, usageError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import { listenAoe, type AoeListener } from '../../protocol/aoe/target/open.node.js';
import type { Offered } from '../exports.js';

/** Size of a sector in AoE, in bytes. */
const sectorSize = 512;

/**
 * Serves all exports at `aoe:SHELF.SLOT@SEGMENT`: the first at this slot, each further one at the
 * next slot. Rejects with a FarbusError if AoE cannot serve one of them as it is meant.
 */
export async function serveOnSegment(
  text: string,
  exports: Iterable<Offered>,
  log: Logger,
  steps?: Steps,
): Promise<AoeListener> {
  const all = [...exports];
  for (const one of all) check(text, one);
  const offered = all.map(({ device, readOnly, sessions }) => ({ device, readOnly, state: sessions.state }));
  return listenAoe(text, offered, log, steps);
}

function check(text: string, { name, oneWriter, limit, tlsOnly, blockSize }: Offered): void {
  if (oneWriter !== undefined || limit !== undefined) {
    throw usageError(`${text}: one-writer and rate are for exports by NBD; serve others on segments by another farbus`);
  }
  if (tlsOnly) throw usageError(`${text}: there is no TLS on segments: serve what is tls-only by another farbus`);
  if (blockSize > sectorSize) {
    throw new FarbusError(
      `${text}: AoE has sectors of ${sectorSize} bytes, those of ${JSON.stringify(name)} are ${blockSize}: use NBD`,
    );
  }
}
