/** Dialers for TCP and unix sockets: a client uses one to connect and reconnect to its peer. */
import { eager } from './eager/stream.node.js';
import { hostPort, dialSocket, type SocketAddress } from './socket.node.js';
import type { ByteStream, Dialer } from './stream.js';

const dial = async (to: SocketAddress, signal: AbortSignal): Promise<ByteStream> => eager(await dialSocket(to, signal));

/**
 * A dialer for a TCP port. The host name is resolved at each call, so that a server with a new IP
 * address is found.
 * @param address for messages; default "host:port"
 */
export function tcpDialer(host: string, port: number, address = hostPort(host, port)): Dialer {
  return { address, connect: (signal) => dial({ host, port }, signal) };
}

/**
 * A dialer for a unix socket.
 * @param address for messages; default: the path
 */
export function unixDialer(path: string, address = path): Dialer {
  return { address, connect: (signal) => dial({ path }, signal) };
}
