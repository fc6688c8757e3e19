/**
 * A network interface of the host as a segment, through packet(7).
 *
 * Frames of other programs on that interface are not affected. The host itself cannot be reached
 * through the segment, because its own frames leave without being seen here.
 *
 * Left out: VLAN tags, which the kernel removes. Frames that the interface has joined beyond its
 * MTU (offloads such as GRO) are dropped and counted.
 */
import type { Logger } from '../../base/log.js';
import type { Segment } from './segment.js';
import { CarrierSegment } from './carrier.node.js';
import { interfaceError, interfaceFacts } from './interface.node.js';
import {
  AF_PACKET,
  int32,
  socketCalls,
  PACKET_ADD_MEMBERSHIP,
  PACKET_IGNORE_OUTGOING,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_RAW,
  SOL_PACKET,
  type SocketCalls,
} from '../../linux/sockets.node.js';

export interface PacketOptions {
  /**
   * Only receive frames of this type. Default: all, which costs this process time for each frame of
   * the interface.
   */
  readonly etherType?: number | undefined;
  readonly log?: Logger | undefined;
}

const ETH_P_ALL = 3;
const PACKET_MR_PROMISC = 1;
/** Size of the kernel's buffers in bytes: more than all initiators of a target have in flight. */
const bufferSize = 16 << 20;

/**
 * Opens an interface.
 * @throws FarbusError if it cannot be opened
 */
export function openPacket(name: string, options: PacketOptions = {}): Segment {
  const calls = socketCalls(name);
  try {
    return new CarrierSegment({
      ...interfaceFacts(calls, name),
      name,
      isSocket: true,
      open: () => openSocket(calls, name, options.etherType ?? ETH_P_ALL),
      takeAll: (fd) => takeAll(calls, fd, name),
      log: options.log,
    });
  } catch (error) {
    throw interfaceError(name, 'the right cap_net_raw', error);
  }
}

function openSocket(calls: SocketCalls, name: string, etherType: number): number {
  const index = calls.interfaceIndex(name);
  // Protocol 0 receives nothing until the bind. Otherwise the socket would first receive frames of
  // every interface.
  const fd = calls.socket(AF_PACKET, SOCK_RAW, 0);
  try {
    if (etherType === ETH_P_ALL) calls.setOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, int32(1));
    calls.setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bufferSize);
    calls.setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, bufferSize);
    // struct sockaddr_ll.
    const address = new DataView(new ArrayBuffer(20));
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, etherType, false);
    address.setInt32(4, index, true);
    calls.bind(fd, new Uint8Array(address.buffer));
    return fd;
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

function takeAll(calls: SocketCalls, fd: number, name: string): void {
  // struct packet_mreq.
  const request = new DataView(new ArrayBuffer(16));
  request.setInt32(0, calls.interfaceIndex(name), true);
  request.setUint16(4, PACKET_MR_PROMISC, true);
  calls.setOption(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, new Uint8Array(request.buffer));
}
