/**
 * `farbus/node`: disks, servers, copies and computers in a few words; and what needs Node's files,
 * sockets and programs: disks by path and address, TLS, Ethernet segments.
 *
 * Errors are FarbusErrors whose message is one line for people, and BlockErrors of requests; both
 * are in `farbus`. A device that you pass to a function stays open: close what you have opened.
 *
 * @module farbus/node
 */
export { compare, copy } from '../app/library/copy.js';
export type { CopyDisksOptions, DiskCopy, DiskPairOptions } from '../app/library/copy.js';
export { startDebian } from '../app/library/debian.js';
export type { CommandOptions, CommandResult, DebianComputer, DebianOptions } from '../app/library/debian.js';
export { openSource } from '../app/library/open.js';
export type { OpenSourceOptions } from '../app/library/open.js';
export { serve } from '../app/library/serve.js';
export type { DiskServer, ServedDisk, ServedExport, ServeOptions, ServeTls } from '../app/library/serve.js';
export { readSnapshot, writeSnapshot } from '../machine/snapshot-file.node.js';
export { tcpDialer, unixDialer } from '../network/dial.node.js';
export { startSite } from '../app/library/site.js';
export type { Site, SiteOptions } from '../app/library/site.js';
export type {
  SiteComputer,
  SiteDescription,
  SiteDevice,
  SiteFarDrive,
  SiteSegment,
  SiteSystem,
} from '../app/library/site-description.js';
export type { OnProgress, Progress } from '../guest/progress.js';
export type { ComputerState, LeaseState } from '../site/computer.js';
export type { ComputerStatus } from '../site/supervisor.js';
export { openSegment } from '../network/ethernet/open.node.js';
export type { SegmentOptions } from '../network/ethernet/open.node.js';
export { listenOn } from '../network/listen.node.js';
export type { SocketListener } from '../network/listen.node.js';
export type { SocketAddress } from '../network/socket.node.js';
export { clientCertificates, presharedKeys, serverCertificates } from '../network/tls-files.node.js';
export { tlsClient, tlsServer } from '../network/tls.node.js';
export type { TlsClientOptions, TlsCredentials, TlsServerOptions } from '../network/tls.node.js';
export { openAoe } from '../protocol/aoe/initiator/open.node.js';
export { openNbd } from '../protocol/nbd/initiator/open.node.js';
export { openImage } from '../protocol/qemu/open.node.js';
export type { ImageOptions } from '../protocol/qemu/open.node.js';
export type { InitiatorOptions } from '../protocol/remote/initiator-device.js';
export { openRsh } from '../protocol/rsh/open.node.js';
export { openSsh } from '../protocol/ssh/open.node.js';
export { openCacheFile } from '../storage/cache-file.node.js';
export { openPath } from '../storage/open.node.js';
export { openOverlayFile } from '../storage/overlay-file.node.js';
export type { OverlayFileOptions } from '../storage/overlay-file.node.js';
export type { OpenOptions } from '../storage/opening.node.js';
