/** An NBD export by its URI, over this computer's own sockets. */
import { tcpDialer, unixDialer } from '../../../network/dial.node.js';
import type { Dialer } from '../../../network/stream.js';
import { formatNbdUri, parseNbdUri, type NbdAddress } from '../uri.js';
import { connectNbd, type NbdInitiator, type NbdOptions } from './initiator.js';

/** A dialer for an NBD server; in messages it is called by its URI. */
export function nbdDialer(address: NbdAddress): Dialer {
  const uri = formatNbdUri(address);
  return address.transport === 'tcp' ? tcpDialer(address.host, address.port, uri) : unixDialer(address.path, uri);
}

/** Opens the export at an NBD URI. Rejects with a FarbusError. */
export async function openNbd(uri: string, options: Omit<NbdOptions, 'exportName'> = {}): Promise<NbdInitiator> {
  const address = parseNbdUri(uri);
  return connectNbd(nbdDialer(address), { ...options, exportName: address.exportName });
}
