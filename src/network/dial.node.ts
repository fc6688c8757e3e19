/** Dialers for TCP and unix sockets: how a client reaches one peer, again and again. */
import { hostPort, dialSocket } from './socket.node.js';
import type { Dialer } from './stream.js';

/**
 * Dials a TCP port. The host's name is resolved at each call, so that a server that moved is found again.
 * @param address For messages; "host:port" if it is not given.
 */
export function tcpDialer(host: string, port: number, address = hostPort(host, port)): Dialer {
  return { address, connect: (signal) => dialSocket({ host, port }, signal) };
}

/**
 * Dials a unix socket by its path.
 * @param address For messages; the path if it is not given.
 */
export function unixDialer(path: string, address = path): Dialer {
  return { address, connect: (signal) => dialSocket({ path }, signal) };
}
