/**
 * Reads and sets properties of the host's network interfaces, by ioctl(2) (netdevice(7)).
 */
import { FarbusError, errnoOf, messageOf } from '../../base/errors.js';
import type { Mac } from './mac.js';
import {
  AF_INET,
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFMTU,
  SIOCSIFFLAGS,
  SIOCSIFMTU,
  SOCK_DGRAM,
  type SocketCalls,
} from '../../linux/sockets.node.js';

/** struct ifreq: bytes of the name, which comes first, and of the whole. */
const nameSize = 16;
const requestSize = 40;
const IFF_UP = 1;
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;

/**
 * Builds a struct ifreq for an interface.
 * @throws FarbusError if no interface can have that name
 */
export function interfaceRequest(name: string): { bytes: Uint8Array; view: DataView } {
  const encoded = new TextEncoder().encode(name);
  if (encoded.length === 0 || encoded.length >= nameSize || /[\s/:\0]/.test(name)) {
    throw new FarbusError(`${JSON.stringify(name)} is no name of an interface: see "ip link"`, { exitCode: 2 });
  }
  const bytes = new Uint8Array(requestSize);
  bytes.set(encoded);
  return { bytes, view: new DataView(bytes.buffer) };
}

function ask<T>(calls: SocketCalls, act: (fd: number) => T): T {
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  try {
    return act(fd);
  } finally {
    calls.close(fd);
  }
}

/** The interface's MTU in bytes, and its MAC address. */
export function interfaceFacts(calls: SocketCalls, name: string): { mtu: number; mac: Mac } {
  return ask(calls, (fd) => {
    const mtu = interfaceRequest(name);
    calls.ioctl(fd, SIOCGIFMTU, mtu.bytes);
    const address = interfaceRequest(name);
    calls.ioctl(fd, SIOCGIFHWADDR, address.bytes);
    const kind = address.view.getUint16(nameSize, true);
    if (kind !== ARPHRD_ETHER && kind !== ARPHRD_LOOPBACK) {
      throw new FarbusError(`${name} is no Ethernet interface: choose another one of "ip link"`);
    }
    return { mtu: mtu.view.getInt32(nameSize, true), mac: address.bytes.slice(nameSize + 2, nameSize + 8) };
  });
}

/** Sets an interface's MTU if one is given, and brings the interface up. */
export function raiseInterface(calls: SocketCalls, name: string, mtu: number | undefined): void {
  ask(calls, (fd) => {
    if (mtu !== undefined) {
      const request = interfaceRequest(name);
      request.view.setInt32(nameSize, mtu, true);
      calls.ioctl(fd, SIOCSIFMTU, request.bytes);
    }
    const flags = interfaceRequest(name);
    calls.ioctl(fd, SIOCGIFFLAGS, flags.bytes);
    flags.view.setUint16(nameSize, flags.view.getUint16(nameSize, true) | IFF_UP, true);
    calls.ioctl(fd, SIOCSIFFLAGS, flags.bytes);
  });
}

/** Translates an error of an interface into a message for people. */
export function interfaceError(name: string, right: string, error: unknown): FarbusError {
  if (error instanceof FarbusError) return error;
  switch (errnoOf(error)) {
    case 'EPERM':
    case 'EACCES':
      return new FarbusError(`${name}: not permitted: be root, or give node ${right} (setcap)`, { cause: error });
    case 'ENODEV':
    case 'ENXIO':
      return new FarbusError(`${name}: there is no such interface: see "ip link"`, { cause: error });
    case 'ENOENT':
      return new FarbusError(`${name}: this system has no TAP devices: try "modprobe tun"`, { cause: error });
    case 'EBUSY':
      return new FarbusError(`${name}: another program uses it`, { cause: error });
    case 'EINVAL':
      return new FarbusError(`${name}: the interface does not take this (its MTU, or its kind)`, { cause: error });
    default:
      return new FarbusError(`${name}: ${messageOf(error)}`, { cause: error });
  }
}
