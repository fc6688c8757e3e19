/**
 * Checks of a request's `Host` and `Origin` headers, against pages of other sites.
 *
 * DNS rebinding: an attacker's page has a host name that first leads to the attacker and then to
 * this server. The browser takes both for the same site and sends the attacker's name as `Host`. An
 * address cannot be rebound, so any literal address is accepted.
 */
import { addressBytes } from '../../export/access.js';

export interface HostRules {
  /** Names by which the server is reached, besides addresses and `localhost`; in lower case. */
  readonly names: ReadonlySet<string>;
  /** Origins of other sites whose pages may use the WebSockets. */
  readonly origins: ReadonlySet<string>;
}

/** True if a request with this `Host` was meant for this server. */
export function isOwnHost(host: string | undefined, { names }: HostRules): boolean {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]/@\s]+))(?::\d{1,5})?$/i.exec(host ?? '');
  if (!match) return false;
  const [, literal, name = ''] = match;
  if (literal !== undefined) return addressBytes(literal) !== undefined;
  const plain = name.toLowerCase().replace(/\.$/, '');
  return plain === 'localhost' || addressBytes(plain) !== undefined || names.has(plain);
}

/**
 * The relation of a request to its origin: `own` page, or no page at all; a page that the user has
 * `named`; or a `foreign` one.
 */
export function originOf(
  origin: string | undefined,
  scheme: 'http' | 'https',
  host: string,
  { origins }: HostRules,
): 'own' | 'named' | 'foreign' {
  if (origin === undefined) return 'own';
  const plain = origin.toLowerCase();
  if (plain === `${scheme}://${host.toLowerCase()}`) return 'own';
  return origins.has(plain) ? 'named' : 'foreign';
}

/**
 * Paths that pages of named origins may fetch, for a computer in their own tab: its files, and the
 * version of a disk whose bytes they may read anyway.
 */
export function isForPages(path: string): boolean {
  return path.startsWith('/guest/') || path.startsWith('/engine/') || path.startsWith('/version/');
}

/** The headers by which a browser lets a page of another origin have an answer (CORS). */
export function headersForPages(origin: string): Readonly<Record<string, string>> {
  return {
    'Access-Control-Allow-Origin': origin,
    'Access-Control-Allow-Headers': 'Authorization',
    'Cross-Origin-Resource-Policy': 'cross-origin',
  };
}

/** Longest list of subprotocols, in characters. */
const maxProtocols = 2000;

/** The names in a header `Sec-WebSocket-Protocol`. */
export function offeredProtocols(header: string | undefined): string[] {
  if (header === undefined || header.length > maxProtocols) return [];
  return header.split(',').map((one) => one.trim());
}
