/**
 * Opens an export of a Farbus server from a page or a worker: NBD over the browser's own WebSocket.
 */
import { FarbusError } from '../base/errors.js';
import { webSocketDialer } from '../network/websocket.js';
import { connectNbd, type NbdInitiator, type NbdOptions } from '../protocol/nbd/initiator/initiator.js';

/** The address of an export. */
export interface ExportAddress {
  /** The export's WebSocket: `wss://HOST:PORT/nbd/NAME` (docs/web.md). */
  readonly url: string;
  /**
   * Name of the export within the connection. Default: '', which is the export that the address
   * names, or the default export of a server whose addresses name none.
   */
  readonly name?: string | undefined;
  /** Token of access, if the server wants one. */
  readonly token?: string | undefined;
}

/**
 * Connects to an export of a server. The result is a BlockDevice, which reconnects by itself.
 * @throws FarbusError if the address is none of a WebSocket, the server does not answer, or it
 *   refuses
 *
 * @example
 * ```ts
 * import { connectExport } from 'farbus/browser';
 *
 * const disk = await connectExport({ url: `ws://${location.host}/nbd/disk.img` });
 * const sector = new Uint8Array(512);
 * await disk.read(0, sector);
 * await disk.close();
 * ```
 */
export async function connectExport(
  { url, name = '', token }: ExportAddress,
  options: Omit<NbdOptions, 'secure' | 'exportName'> = {},
): Promise<NbdInitiator> {
  if (!URL.canParse(url) || !/^wss?:$/.test(new URL(url).protocol)) {
    throw new FarbusError(`${url}: expected the address of a WebSocket, such as wss://server:8080/nbd/disk.img`);
  }
  return connectNbd(webSocketDialer(url, { token }), { ...options, exportName: name });
}
