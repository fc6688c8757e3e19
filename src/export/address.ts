/** Where a server listens, and the NBD URIs of its exports there (the NBD project's uri.md). */
import { FarbusError, messageOf, usageError } from '../base/errors.js';
import { formatNbdUri, parseNbdUri } from '../protocol/nbd/uri.js';

/** A TCP port (0: any free one) or a unix socket's path. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** Parses what `--listen` takes: `nbd://HOST:PORT` or `nbd+unix:///?socket=PATH`. Throws a usage error. */
export function parseListenAddress(text: string): ListenAddress {
  let address;
  try {
    address = parseNbdUri(text);
  } catch (error) {
    throw new FarbusError(`--listen ${messageOf(error)}`, { exitCode: 2, cause: error });
  }
  const { exportName, tls } = address;
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

/** The URI that a client uses for export `exportName` of a server there, over TLS or not; '' for the default export. */
export function exportUri(at: ListenAddress, exportName: string, tls = false): string {
  const security = tls ? { tls: {} } : {};
  if ('path' in at) return formatNbdUri({ transport: 'unix', path: at.path, exportName, ...security });
  return formatNbdUri({ transport: 'tcp', host: at.host, port: at.port, exportName, ...security });
}
