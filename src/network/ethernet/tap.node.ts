/**
 * A TAP device as a segment: what the host sends on the interface comes here, and what is sent here comes in there
 * (Linux's Documentation/networking/tuntap.rst). A device of that name that exists is used; else one is made, which is
 * gone when this process is.
 */
import type { Logger } from '../../base/log.js';
import { CarrierSegment } from './carrier.node.js';
import { interfaceError, interfaceFacts, interfaceRequest, raiseInterface } from './interface.node.js';
import { native, O_RDWR_NONBLOCK_CLOEXEC, TUNSETIFF, type Native } from './native.node.js';
import type { Segment } from './segment.js';

export interface TapOptions {
  /** Sets the interface's MTU. Default: it stays as it is, 1500 for a new one. */
  readonly mtu?: number | undefined;
  readonly log?: Logger | undefined;
}

const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;

/** Opens a TAP device and turns its interface on. @throws FarbusError where it cannot be had. */
export function openTap(name: string, options: TapOptions = {}): Segment {
  const calls = native(name);
  let first: number | undefined;
  try {
    // The MTU is known when the device is there.
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

function openDevice(calls: Native, name: string): number {
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
