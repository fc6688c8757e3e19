/**
 * `farbus/node`: what needs Node's files, sockets and programs.
 *
 * @module farbus/node
 */
export { prepareDebianGuest } from '../guest/debian.node.js';
export type { DebianGuest, GuestOptions } from '../guest/debian.node.js';
export { readSnapshot, writeSnapshot } from '../machine/snapshot-file.node.js';
export { tcpDialer, unixDialer } from '../network/dial.node.js';
export { openSegment } from '../network/ethernet/open.node.js';
export type { SegmentOptions } from '../network/ethernet/open.node.js';
export { listenOn } from '../network/listen.node.js';
export type { SocketListener } from '../network/listen.node.js';
export { clientCertificates, presharedKeys, serverCertificates } from '../network/tls-files.node.js';
export { tlsClient, tlsServer } from '../network/tls.node.js';
export type { TlsClientOptions, TlsCredentials, TlsServerOptions } from '../network/tls.node.js';
export { openAoe } from '../protocol/aoe/initiator/open.node.js';
export { openNbd } from '../protocol/nbd/initiator/open.node.js';
export { openImage } from '../protocol/qemu/open.node.js';
export type { ImageOptions } from '../protocol/qemu/open.node.js';
export { openRsh } from '../protocol/rsh/open.node.js';
export { openSsh } from '../protocol/ssh/open.node.js';
export { openCacheFile } from '../storage/cache-file.node.js';
export { openPath } from '../storage/open.node.js';
export { openOverlayFile } from '../storage/overlay-file.node.js';
export type { OverlayFileOptions } from '../storage/overlay-file.node.js';
