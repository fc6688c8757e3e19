/** Where UDP datagrams go to and come from. */

/** Where datagrams are sent to, or received. An IPv4 or IPv6 address and a port. */
export interface UdpAddress {
  readonly host: string;
  readonly port: number;
}

/** Where a datagram came from. */
export interface UdpSender {
  readonly address: string;
  readonly port: number;
}
