/**
 * Opens an export of a Farbus server from a page or a worker: NBD over the browser's own WebSocket.
 */
import { Deadline } from '../base/deadline.js';
import { FarbusError, messageOf } from '../base/errors.js';
import { webSocketDialer } from '../network/websocket.js';
import { connectNbd, type NbdInitiator, type NbdOptions } from '../protocol/nbd/initiator/initiator.js';

/** Time limit of a question about the version, in ms. */
const versionMs = 5000;

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

/**
 * Asks a server for the version of an export's content. If two answers are equal, no byte has
 * changed between them. Undefined if the server cannot promise that: for example, the disk has been
 * written in the last seconds, it is no file, or the server is not Farbus. A cache needs it
 * (`openOpfsCache`).
 * @throws FarbusError if the server does not answer, or refuses
 */
export async function exportVersion({ url, token }: ExportAddress): Promise<string | undefined> {
  const address = versionAddress(url);
  if (address === undefined) return undefined;
  const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const deadline = new Deadline(versionMs);
  try {
    const response = await fetch(address, { headers, cache: 'no-store', signal: deadline.signal });
    if (!response.ok) throw new FarbusError(`the server tells no version of the disk (${response.status})`);
    const { version } = (await response.json()) as { version?: unknown };
    return typeof version === 'string' ? version : undefined;
  } catch (error) {
    throw error instanceof FarbusError ? error : new FarbusError(`cannot fetch ${address}: ${messageOf(error)}`);
  } finally {
    deadline.end();
  }
}

/** The path `/version/NAME` beside `/nbd/NAME`. Undefined if the address is another server's. */
function versionAddress(url: string): string | undefined {
  const address = URL.canParse(url) ? new URL(url) : undefined;
  const path = /^(.*)\/nbd\/([^/]*)$/.exec(address?.pathname ?? '');
  if (!address || !path || !/^wss?:$/.test(address.protocol)) return undefined;
  return new URL(`${path[1]}/version/${path[2]}`, `${address.protocol.replace('ws', 'http')}//${address.host}`).href;
}
