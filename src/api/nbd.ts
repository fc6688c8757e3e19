/**
 * `farbus/nbd`: both sides of NBD (network block device) over any byte stream: the initiator, which
 * is a BlockDevice, and the server with its exports. Runs in Node, in browsers and in workers;
 * `farbus/node` adds TCP, unix sockets and TLS.
 *
 * @example A server's accept function, and an initiator that connects to it
 * ```ts
 * import { MemoryDevice, silent } from 'farbus';
 * import { connectNbd, Exports, NbdServer, type Dialer } from 'farbus/nbd';
 *
 * const exports = new Exports();
 * exports.add({ name: 'disk', device: new MemoryDevice(64 << 20) });
 * const server = new NbdServer(exports, silent);
 * // For each new connection of your transport: server.accept(stream)
 *
 * declare const dialer: Dialer; // how your transport connects
 * const disk = await connectNbd(dialer, { exportName: 'disk' });
 * await disk.write(0, new Uint8Array(512));
 * await disk.close();
 * await server.drain();
 * ```
 * @module farbus/nbd
 */
export type { AccessRules } from '../export/access.js';
export type { ConnectionLimits } from '../export/admission.js';
export { Exports } from '../export/exports.js';
export type { ClientCounters, ExportCounters } from '../block/export-counters.js';
export type { ExportOptions, ExportUser, Offered } from '../export/exports.js';
export { Server as NbdServer } from '../export/nbd/server.js';
export type { ServerLimits as NbdServerLimits } from '../export/nbd/server.js';
export type { ByteStream, Dialer, Listener, Secure, SecuredStream, StreamEvents } from '../network/stream.js';
export { nbdSubprotocol, webSocketDialer, webSocketStream } from '../network/websocket.js';
export type {
  SocketAbilities,
  WebSocketDialerOptions,
  WebSocketLike,
  WebSocketStreamOptions,
} from '../network/websocket.js';
export { connectNbd } from '../protocol/nbd/initiator/initiator.js';
export type { NbdGateway } from '../protocol/nbd/initiator/gateways.js';
export type { NbdInitiator, NbdOptions } from '../protocol/nbd/initiator/initiator.js';
export type { TargetTls as NbdServerTls } from '../protocol/nbd/target/target.js';
export { formatNbdUri, nbdWebPath, parseNbdUri } from '../protocol/nbd/uri.js';
export type { NbdAddress, NbdPlace, NbdTls } from '../protocol/nbd/uri.js';
export type { RemoteState } from '../protocol/remote/reconnection.js';
