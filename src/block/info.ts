/** Facts of a device of one's own: only those that are special are given. */
import type { BlockInfo, Capabilities } from './device.js';

/** The facts that a device gives to {@link blockInfo}. */
export interface DeviceFacts extends Partial<Omit<BlockInfo, 'can'>> {
  /** Length in bytes; a multiple of `blockSize`. */
  readonly size: number;
  /** The operations that it supports by itself. Default: reading and writing only. */
  readonly can?: Partial<Capabilities>;
}

/**
 * The facts of a device, with defaults: blocks of 512 bytes, transfers of at most 32 MiB, and no
 * capability besides reading and writing.
 *
 * @example
 * ```ts
 * import { blockInfo } from 'farbus';
 *
 * const info = blockInfo({ size: 64 << 20, can: { flush: true } });
 * ```
 */
export function blockInfo({ can, ...facts }: DeviceFacts): BlockInfo {
  return {
    blockSize: 512,
    preferredSize: Math.max(4096, facts.blockSize ?? 0),
    maxTransfer: 1 << 25,
    readOnly: false,
    removable: false,
    rotational: false,
    identity: '',
    ...facts,
    can: {
      flush: false,
      fua: false,
      trim: false,
      writeZeroes: false,
      extents: false,
      multiConnection: false,
      ...can,
    },
  };
}
