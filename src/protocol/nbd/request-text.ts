/** What traces say of a request, the same on both sides: its cookie and its command. */
import { Command } from './spec.js';

const sectorSize = 512;

const names: Readonly<Record<number, string>> = {
  [Command.read]: 'read',
  [Command.write]: 'write',
  [Command.disconnect]: 'disconnect',
  [Command.flush]: 'flush',
  [Command.trim]: 'trim',
  [Command.cache]: 'cache',
  [Command.writeZeroes]: 'write zeroes',
  [Command.blockStatus]: 'block status',
};

/** The cookie of a request ([NBD] "Request message") as one number, of its halves. */
export function cookieOf(high: number, low: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}

/** "read sectors 800..807", or bytes where they are no whole sectors. */
export function requestText(command: number, offset: number, length: number): string {
  const name = names[command] ?? `command ${command}`;
  if (length === 0) return name;
  if (offset % sectorSize !== 0 || length % sectorSize !== 0) return `${name} bytes ${offset}..${offset + length - 1}`;
  return `${name} sectors ${offset / sectorSize}..${(offset + length) / sectorSize - 1}`;
}
