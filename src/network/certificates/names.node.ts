/** Checks the names that a new certificate will have, and brings host names to their usual form. */
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { usageError } from '../../base/errors.js';
import { printable } from '../../base/printable.js';

/** Names that each server's certificate has: a server is reached by them on its own computer. */
const ownHosts = ['localhost', '127.0.0.1', '::1'] as const;

/** A name of a host: labels of letters, digits, "-" and "_", the last not only of digits. */
const hostForm =
  /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*(?!\d+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** A client's name. It is also the name of a folder. */
const clientForm = /^[\p{L}\p{N}_@+][\p{L}\p{M}\p{N}_@+.-]*$/u;
/** Longest name of a client, in bytes. RFC 5280 limits a common name to 64 characters. */
const maxName = 64;

/**
 * The names of a server's certificate: these hosts, and those of its own computer.
 * @throws FarbusError if one is neither a host name nor an IP address
 */
export function serverNames(hosts: readonly string[]): string[] {
  return [...new Set([...hosts.map(hostName), ...ownHosts])];
}

/** @throws FarbusError if it is neither a host name nor an IP address */
export function hostName(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (isIP(bare) !== 0 && !bare.includes('%')) return bare.toLowerCase();
  // domainToASCII would ignore a path, as in a URL.
  const name = /^[\p{L}\p{M}\p{N}._-]+$/u.test(text) ? domainToASCII(text) : '';
  if (hostForm.test(name)) return name;
  throw usageError(`${printable(text)}: HOST is a host name or an IP address, without a port`);
}

/** @throws FarbusError if it cannot be a client's name */
export function clientName(text: string): string {
  if (clientForm.test(text) && Buffer.byteLength(text) <= maxName) return text;
  throw usageError(`--client ${printable(text)}: a name has at most ${maxName} letters, digits and . _ - @ +`);
}
