/**
 * Opens an NBD export by its URI over this computer's sockets or a WebSocket, with TLS if the URI
 * says so.
 */
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { untilAbort } from '../../../base/abort.js';
import { FarbusError, messageOf } from '../../../base/errors.js';
import { tcpDialer, unixDialer } from '../../../network/dial.node.js';
import { clientCertificates, presharedKeys } from '../../../network/tls-files.node.js';
import { tlsClient } from '../../../network/tls.node.js';
import { socketDialer } from '../../../network/websocket.node.js';
import type { Secure } from '../../../network/stream.js';
import { formatNbdUri, gatewaysOf, nbdWebPath, parseNbdUri, type NbdAddress } from '../uri.js';
import type { NbdGateway } from './gateways.js';
import { connectNbd, type NbdInitiator, type NbdOptions } from './initiator.js';

/**
 * How an NBD server is reached, and how the connection is encrypted by NBD itself: not without TLS,
 * and not over a WebSocket, which is encrypted below it. Messages name the server by its URI.
 * Rejects with a FarbusError.
 */
export async function nbdWay(address: NbdAddress): Promise<NbdGateway> {
  const uri = formatNbdUri(address);
  const secure = await nbdSecurity(address);
  switch (address.transport) {
    case 'tcp':
      return { dialer: tcpDialer(address.host, address.port, uri), secure };
    case 'unix':
      return { dialer: unixDialer(address.path, uri), secure };
    case 'websocket': {
      const { host, port, exportName, tokenFile } = address;
      const token = tokenFile === undefined ? address.token : await tokenIn(tokenFile);
      const path = nbdWebPath(exportName);
      return { dialer: socketDialer({ host, port, path, address: uri, secure, token }), secure: undefined };
    }
  }
}

/** Reads a token from a file. Rejects with a FarbusError. */
async function tokenIn(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new FarbusError(`cannot read the token in ${path}: ${messageOf(error)}`, { cause: error });
  });
  const token = text.trim();
  if (!/^[A-Za-z0-9._~-]{1,200}$/.test(token)) throw new FarbusError(`${path} holds no token: farbus token makes one`);
  return token;
}

/**
 * The encryption for an address; undefined if its connections are not encrypted. Rejects with a
 * FarbusError.
 */
async function nbdSecurity(address: NbdAddress): Promise<Secure | undefined> {
  const { tls } = address;
  if (!tls) return undefined;
  const verifyPeer = tls.verifyPeer ?? true;
  const credentials =
    tls.pskFile === undefined
      ? await clientCertificates(tls.certificates, verifyPeer)
      : await presharedKeys(tls.pskFile);
  const hostname = tls.hostname ?? (address.transport === 'unix' ? undefined : address.host);
  const { fingerprint, username = userInfo().username } = tls;
  return tlsClient({ credentials, hostname, verifyPeer, username, fingerprint });
}

/**
 * Opens the export at an NBD URI, which may name several gateways. Its `x-connections` and
 * `x-detect` override `options`. Rejects with a FarbusError.
 */
export async function openNbd(uri: string, options: Omit<NbdOptions, 'exportName'> = {}): Promise<NbdInitiator> {
  const address = parseNbdUri(uri);
  const { exportName, connections = options.connections, unfenced = options.unfenced } = address;
  const { detectSeconds: stallSeconds = options.stallSeconds } = address;
  const [first, ...others] = await untilAbort(options.signal, Promise.all(gatewaysOf(address).map(nbdWay)));
  return connectNbd(first!.dialer, {
    ...options,
    connections,
    secure: first!.secure,
    others,
    address: formatNbdUri(address),
    unfenced,
    stallSeconds,
    exportName,
  });
}
