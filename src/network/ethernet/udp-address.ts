/**
 * Addresses of UDP datagrams.
 */

/** Source or destination of datagrams: an IPv4 or IPv6 address, and a port. */
export interface UdpAddress {
  readonly host: string;
  readonly port: number;
}

/** Sender of a received datagram, in the form of Node's dgram. */
export interface UdpSender {
  readonly address: string;
  readonly port: number;
}
