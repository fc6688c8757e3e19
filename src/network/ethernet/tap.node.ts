/**
 * A TAP device as a segment: frames that the host sends on the interface arrive here, and frames
 * sent here arrive on the interface (Linux's Documentation/networking/tuntap.rst).
 *
 * If a device of that name exists, it is used. Else one is created, which disappears when this
 * process ends.
 */
import type { Logger } from '../../base/log.js';
import { CarrierSegment } from './carrier.node.js';
import { interfaceError, interfaceFacts, interfaceRequest, raiseInterface } from './interface.node.js';
import { socketCalls, O_RDWR_NONBLOCK_CLOEXEC, TUNSETIFF, type SocketCalls } from '../../linux/sockets.node.js';
import type { Segment } from './segment.js';

export interface TapOptions {
  /** MTU to set on the interface, in bytes. Default: unchanged, which is 1500 for a new device. */
  readonly mtu?: number | undefined;
  readonly log?: Logger | undefined;
}

const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;

/**
 * Opens a TAP device and brings its interface up.
 * @throws FarbusError if it cannot be opened
 */
export function openTap(name: string, options: TapOptions = {}): Segment {
  const calls = socketCalls(name);
  let first: number | undefined;
  try {
    // The MTU is known only once the device exists, so open it before the segment.
    first = openDevice(calls, name);
    raiseInterface(calls, name, options.mtu);
    const { mtu } = interfaceFacts(calls, name);
    const open = (): number => {
      const fd = first ?? openDevice(calls, name);
      if (first === undefined) raiseInterface(calls, name, options.mtu);
      first = undefined;
      return fd;
    };
    return new CarrierSegment({ name, mtu, isSocket: false, open, log: options.log });
  } catch (error) {
    if (first !== undefined) calls.close(first);
    throw interfaceError(name, 'the right cap_net_admin', error);
  }
}

function openDevice(calls: SocketCalls, name: string): number {
  const request = interfaceRequest(name);
  request.view.setUint16(16, IFF_TAP | IFF_NO_PI, true);
  const fd = calls.open('/dev/net/tun', O_RDWR_NONBLOCK_CLOEXEC);
  try {
    calls.ioctl(fd, TUNSETIFF, request.bytes);
    return fd;
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}
