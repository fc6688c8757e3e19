/**
 * The address on which a server listens, and the NBD URIs of its exports there (uri.md of the NBD
 * project).
 */
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { formatNbdUri, parseNbdUri } from '../../protocol/nbd/uri.js';

/** A TCP port (0: any free port) or the path of a unix socket. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/**
 * Parses the argument of `--listen`: `nbd://HOST:PORT` or `nbd+unix:///?socket=PATH`.
 * @throws FarbusError (wrong usage)
 */
export function parseListenAddress(text: string): ListenAddress {
  let address;
  try {
    address = parseNbdUri(text);
  } catch (error) {
    throw new FarbusError(`--listen ${messageOf(error)}`, { exitCode: 2, cause: error });
  }
  const { exportName, tls, others } = address;
  if (address.transport === 'websocket')
    throw usageError(`--listen ${text}: a WebSocket is served by --web [HOST:]PORT`);
  if (others) throw usageError(`--listen ${text}: one address at a time: give --listen several times`);
  if (tls) throw usageError(`--listen ${text}: write nbd:// and give --tls-certificates or --tls-psk`);
  if (exportName !== '') {
    throw usageError(`--listen ${text}: the name of an export (${exportName}) does not belong here: use NAME=SOURCE`);
  }
  if (address.transport === 'tcp') return { host: address.host, port: address.port };
  if (address.path.startsWith('\0')) {
    throw usageError(`--listen ${text}: abstract sockets are not supported: give a path`);
  }
  return { path: address.path };
}

/**
 * The URI of export `exportName` ('' for the default export) of a server at an address, with TLS or
 * without.
 */
export function exportUri(at: ListenAddress, exportName: string, tls = false): string {
  const security = tls ? { tls: {} } : {};
  if ('path' in at) return formatNbdUri({ transport: 'unix', path: at.path, exportName, ...security });
  return formatNbdUri({ transport: 'tcp', host: at.host, port: at.port, exportName, ...security });
}
