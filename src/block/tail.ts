/** The unreachable tail of a device: bytes at its end that do not fill a block of its user. */
import { FarbusError } from '../base/errors.js';
import type { BlockInfo } from './device.js';

/** Bytes at the end that cannot be reached in whole blocks of `unit` bytes. */
export function tailOf({ size, tail = 0 }: BlockInfo, unit = 1): number {
  return tail + (size % unit);
}

/**
 * A warning of one line about the bytes that cannot be reached in whole blocks of `unit` bytes.
 * @returns undefined if every byte can be reached
 */
export function tailWarning(name: string, info: BlockInfo, unit = info.blockSize): string | undefined {
  const count = tailOf(info, unit);
  if (count === 0) return undefined;
  return `${name}: its last ${count} bytes cannot be reached: they do not fill a block of ${unit} bytes`;
}

/**
 * An error for an operation that needs the whole device; undefined if every byte can be reached.
 */
export function tailError(name: string, info: BlockInfo): FarbusError | undefined {
  const warning = tailWarning(name, info);
  return warning === undefined
    ? undefined
    : new FarbusError(`${warning}; --size ${info.size} takes what is before them`);
}
