/**
 * How traces of both roles (initiator, target) name an NBD request: its cookie and its command.
 *
 * Not here: the steps themselves (target/trace.ts, initiator/trace.ts).
 */
import { NbdCommand } from './spec.js';

const sectorSize = 512;

const names: Readonly<Record<number, string>> = {
  [NbdCommand.read]: 'read',
  [NbdCommand.write]: 'write',
  [NbdCommand.disconnect]: 'disconnect',
  [NbdCommand.flush]: 'flush',
  [NbdCommand.trim]: 'trim',
  [NbdCommand.cache]: 'cache',
  [NbdCommand.writeZeroes]: 'write zeroes',
  [NbdCommand.blockStatus]: 'block status',
};

/** Joins the two 32-bit halves of a request's cookie ([NBD] "Request message"). */
export function cookieOf(high: number, low: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}

/**
 * Describes a request: "read sectors 800..807". Uses bytes if the range is not whole 512-byte
 * sectors.
 */
export function requestText(command: number, offset: number, length: number): string {
  const name = names[command] ?? `command ${command}`;
  if (length === 0) return name;
  if (offset % sectorSize !== 0 || length % sectorSize !== 0) return `${name} bytes ${offset}..${offset + length - 1}`;
  return `${name} sectors ${offset / sectorSize}..${(offset + length) / sectorSize - 1}`;
}
