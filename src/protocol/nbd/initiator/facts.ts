/**
 * Derives an export's BlockInfo from the negotiated facts, and checks that a later connection still
 * offers what the first one promised. Source: [NBD] "Size constraints", "Transmission flags".
 */
import { FarbusError } from '../../../base/errors.js';
import type { BlockInfo } from '../../../block/device.js';
import { compareIdentity } from '../../../block/identity.js';
import { TransmissionFlag, defaultMaxPayload } from '../spec.js';
import type { Negotiated } from './negotiation.js';

/**
 * Default block size if the server does not announce one: every server should accept it ([NBD]
 * "Size constraints"). In bytes.
 */
const usualBlock = 512;
const usualPreferred = 4096;
const largestBlock = 65536;

export interface ExportFacts {
  readonly info: BlockInfo;
  /**
   * True if the server reports whether zeroing is faster than writing ([NBD]
   * NBD_FLAG_SEND_FAST_ZERO).
   */
  readonly fastZero: boolean;
  /** True if requests have 64-bit lengths. */
  readonly wide: boolean;
  /** {@link Negotiated.medium}. */
  readonly medium: string | undefined;
}

/** @throws FarbusError if the server's block sizes violate the specification */
export function factsOf(negotiated: Negotiated, exportName: string, readOnly: boolean): ExportFacts {
  const has = (flag: number): boolean => (negotiated.flags & flag) !== 0;
  const blockSize = negotiated.minBlock ?? dividing(negotiated.size, usualBlock);
  if (!powerOfTwo(blockSize) || blockSize > largestBlock) {
    throw new FarbusError(`the server demands blocks of ${blockSize} bytes, which is not a power of two up to 65536`);
  }
  const maxPayload = Math.min(negotiated.maxPayload ?? defaultMaxPayload, defaultMaxPayload);
  const maxTransfer = maxPayload - (maxPayload % blockSize);
  if (maxTransfer === 0) {
    throw new FarbusError(`the server takes ${maxPayload} bytes at most, which is less than its block of ${blockSize}`);
  }
  const preferred = negotiated.preferredBlock ?? usualPreferred;
  const info: BlockInfo = {
    // [NBD] "Size constraints": a partial block at the end cannot be accessed.
    size: negotiated.size - (negotiated.size % blockSize),
    tail: negotiated.size % blockSize,
    blockSize,
    preferredSize: powerOfTwo(preferred) ? Math.max(preferred, blockSize) : Math.max(usualPreferred, blockSize),
    maxTransfer,
    readOnly: readOnly || has(TransmissionFlag.readOnly),
    removable: negotiated.medium !== undefined,
    rotational: has(TransmissionFlag.rotational),
    identity: `nbd:${exportName}`,
    ...(negotiated.marks && { marks: negotiated.marks }),
    can: {
      flush: has(TransmissionFlag.sendFlush),
      fua: has(TransmissionFlag.sendFlush) && has(TransmissionFlag.sendFua),
      trim: has(TransmissionFlag.sendTrim),
      writeZeroes: has(TransmissionFlag.sendWriteZeroes),
      extents: negotiated.style !== 'simple' && negotiated.allocationId !== undefined,
      multiConnection: has(TransmissionFlag.canMultiConn),
    },
  };
  const { style, medium } = negotiated;
  return { info, fastZero: has(TransmissionFlag.sendFastZero), wide: style === 'extended', medium };
}

/**
 * Names the first promise of the first connection that a later connection breaks, for a message;
 * undefined if it keeps all. A larger export, smaller blocks or more abilities are allowed. Another
 * medium in a drive is allowed too, whatever its properties.
 */
export function breachOf(first: ExportFacts, later: ExportFacts): string | undefined {
  if ((first.medium === undefined) !== (later.medium === undefined)) return 'it is no longer the same kind of drive';
  if (first.medium !== later.medium || later.medium === '') return undefined;
  const before = first.info;
  const now = later.info;
  if (now.size < before.size) return `it has ${now.size} bytes and had ${before.size}`;
  if (before.marks && now.marks) {
    // A disk that has grown is still the same disk: compare the marks only, not the size.
    const { size } = before;
    const { verdict, why } = compareIdentity({ size, marks: before.marks }, { size, marks: now.marks });
    if (verdict === 'other') return `it is ${why}`;
  }
  // Smaller blocks are harmless: requests in whole large blocks are also in whole smaller blocks.
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

/**
 * The name of the server's memory, which holds unflushed writes (spec.ts, sessionContext).
 * Undefined if the server reports none.
 */
export function memoryOf({ state }: Negotiated): string | undefined {
  return state || undefined;
}

function powerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

/** The largest power of two that divides `size` and is at most `most`. */
function dividing(size: number, most: number): number {
  let unit = most;
  while (size % unit !== 0) unit /= 2;
  return unit;
}
