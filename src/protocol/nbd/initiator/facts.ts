/**
 * An export's facts as a BlockDevice has them, from what was agreed on with the server; and whether a later agreement
 * still keeps what the first one promised. Source: [NBD] "Size constraints", "Transmission flags".
 */
import { FarbusError } from '../../../base/errors.js';
import type { BlockInfo } from '../../../block/device.js';
import { compareIdentity } from '../../../block/identity.js';
import { TransmissionFlag, defaultMaxPayload } from '../spec.js';
import type { Agreement } from './negotiation.js';

/** Block size where the server does not say: what every server should take ([NBD] "Size constraints"). */
const usualBlock = 512;
const usualPreferred = 4096;
const largestBlock = 65536;

export interface ExportFacts {
  readonly info: BlockInfo;
  /** The server tells whether zeroing is faster than writing ([NBD] NBD_FLAG_SEND_FAST_ZERO). */
  readonly fastZero: boolean;
  /** Requests have 64-bit lengths. */
  readonly wide: boolean;
  /** {@link Agreement.medium}. */
  readonly medium: string | undefined;
}

/** @throws FarbusError where the server's block sizes are not what the specification allows. */
export function factsOf(agreement: Agreement, exportName: string, readOnly: boolean): ExportFacts {
  const has = (flag: number): boolean => (agreement.flags & flag) !== 0;
  const blockSize = agreement.minBlock ?? dividing(agreement.size, usualBlock);
  if (!powerOfTwo(blockSize) || blockSize > largestBlock) {
    throw new FarbusError(`the server demands blocks of ${blockSize} bytes, which is not a power of two up to 65536`);
  }
  const maxPayload = Math.min(agreement.maxPayload ?? defaultMaxPayload, defaultMaxPayload);
  const maxTransfer = maxPayload - (maxPayload % blockSize);
  if (maxTransfer === 0) {
    throw new FarbusError(`the server takes ${maxPayload} bytes at most, which is less than its block of ${blockSize}`);
  }
  const preferred = agreement.preferredBlock ?? usualPreferred;
  const info: BlockInfo = {
    // [NBD] "Size constraints": what does not fill a block at the end cannot be reached.
    size: agreement.size - (agreement.size % blockSize),
    tail: agreement.size % blockSize,
    blockSize,
    preferredSize: powerOfTwo(preferred) ? Math.max(preferred, blockSize) : Math.max(usualPreferred, blockSize),
    maxTransfer,
    readOnly: readOnly || has(TransmissionFlag.readOnly),
    removable: agreement.medium !== undefined,
    rotational: has(TransmissionFlag.rotational),
    identity: `nbd:${exportName}`,
    ...(agreement.marks && { marks: agreement.marks }),
    can: {
      flush: has(TransmissionFlag.sendFlush),
      fua: has(TransmissionFlag.sendFlush) && has(TransmissionFlag.sendFua),
      trim: has(TransmissionFlag.sendTrim),
      writeZeroes: has(TransmissionFlag.sendWriteZeroes),
      extents: agreement.style !== 'simple' && agreement.allocationId !== undefined,
      multiConnection: has(TransmissionFlag.canMultiConn),
    },
  };
  const { style, medium } = agreement;
  return { info, fastZero: has(TransmissionFlag.sendFastZero), wide: style === 'extended', medium };
}

/**
 * What of the facts that were given out a server no longer keeps, for a message; undefined where it keeps them all. A larger
 * export, one with smaller blocks, or one that can do more, is no breach; nor is another medium in a drive, whatever it is like.
 */
export function breachOf(first: ExportFacts, later: ExportFacts): string | undefined {
  if ((first.medium === undefined) !== (later.medium === undefined)) return 'it is no longer the same kind of drive';
  if (first.medium !== later.medium || later.medium === '') return undefined;
  const before = first.info;
  const now = later.info;
  if (now.size < before.size) return `it has ${now.size} bytes and had ${before.size}`;
  if (before.marks && now.marks) {
    // A disk that has grown is still the same one: its marks decide, not its size.
    const { size } = before;
    const { verdict, why } = compareIdentity({ size, marks: before.marks }, { size, marks: now.marks });
    if (verdict === 'other') return `it is ${why}`;
  }
  // Requests that are whole blocks of a larger size are whole blocks of a smaller one.
  if (now.blockSize > before.blockSize) return `its blocks have ${now.blockSize} bytes and had ${before.blockSize}`;
  if (now.maxTransfer < before.maxTransfer) {
    return `it takes ${now.maxTransfer} bytes at once and took ${before.maxTransfer}`;
  }
  if (now.readOnly && !before.readOnly) return 'it has become read-only';
  for (const can of ['flush', 'fua', 'trim', 'writeZeroes', 'extents'] as const) {
    if (before.can[can] && !now.can[can]) return `it can no longer do ${can}`;
  }
  if (first.wide && !later.wide) return 'it can no longer do extended headers';
  if (first.fastZero && !later.fastZero) return 'it can no longer do fast zeroing';
  return undefined;
}

function powerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

/** The largest power of two up to `most` that divides `size`. */
function dividing(size: number, most: number): number {
  let unit = most;
  while (size % unit !== 0) unit /= 2;
  return unit;
}
