/** Opens an NBD export by its URI over this computer's sockets, with TLS if the URI says so. */
import { userInfo } from 'node:os';
import { untilAbort } from '../../../base/abort.js';
import { tcpDialer, unixDialer } from '../../../network/dial.node.js';
import { clientCertificates, presharedKeys } from '../../../network/tls-files.node.js';
import { tlsClient } from '../../../network/tls.node.js';
import type { Dialer, Secure } from '../../../network/stream.js';
import { formatNbdUri, parseNbdUri, type NbdAddress } from '../uri.js';
import { connectNbd, type NbdInitiator, type NbdOptions } from './initiator.js';

/** A dialer for an NBD server. Messages name it by its URI. */
export function nbdDialer(address: NbdAddress): Dialer {
  const uri = formatNbdUri(address);
  return address.transport === 'tcp' ? tcpDialer(address.host, address.port, uri) : unixDialer(address.path, uri);
}

/**
 * The encryption for an address; undefined if its connections are not encrypted. Rejects with a
 * FarbusError.
 */
export async function nbdSecurity(address: NbdAddress): Promise<Secure | undefined> {
  const { tls } = address;
  if (!tls) return undefined;
  const verifyPeer = tls.verifyPeer ?? true;
  const credentials =
    tls.pskFile === undefined
      ? await clientCertificates(tls.certificates, verifyPeer)
      : await presharedKeys(tls.pskFile);
  const hostname = tls.hostname ?? (address.transport === 'tcp' ? address.host : undefined);
  return tlsClient({ credentials, hostname, verifyPeer, username: tls.username ?? userInfo().username });
}

/**
 * Opens the export at an NBD URI. Its `x-connections` overrides `options`. Rejects with a
 * FarbusError.
 */
export async function openNbd(uri: string, options: Omit<NbdOptions, 'exportName'> = {}): Promise<NbdInitiator> {
  const address = parseNbdUri(uri);
  const secure = await untilAbort(options.signal, nbdSecurity(address));
  const { exportName, connections = options.connections } = address;
  return connectNbd(nbdDialer(address), { ...options, connections, secure, exportName });
}
