/**
 * A segment over UDP with one frame a datagram and nothing else: what QEMU's `-netdev dgram` speaks, and the simplest way
 * to connect two processes. One peer; datagrams of others are dropped. Frames are only as large as the network between
 * the two carries: on one computer up to 65000 bytes. No encryption: whoever can send with the peer's address can speak.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIP } from 'node:net';
import { FarbusError, messageOf } from '../../base/errors.js';
import { BaseSegment } from './base-segment.js';
import type { Segment } from './segment.js';

/** Where datagrams are sent to, or received. An IPv4 or IPv6 address and a port. */
export interface UdpAddress {
  readonly host: string;
  readonly port: number;
}

export interface UdpOptions {
  readonly local: UdpAddress;
  readonly remote: UdpAddress;
  /** Default 1500. */
  readonly mtu?: number | undefined;
}

/** What the kernel is asked to hold of datagrams, in bytes; it may grant less. */
const bufferSize = 4 << 20;
/** Bytes that may wait in a socket before frames are dropped. */
const maxPending = 4 << 20;

/** Binds a UDP socket. `received` gets each datagram; it is valid during the call only. Rejects with a FarbusError. */
export async function bindUdp(
  local: UdpAddress,
  received: (bytes: Uint8Array, from: RemoteInfo) => void,
): Promise<UdpPort> {
  const family = isIP(local.host);
  if (family === 0) throw new FarbusError(`UDP ${local.host}: give an IP address of this computer`, { exitCode: 2 });
  const socket = createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    // Addresses only: there is nothing to look up for each datagram.
    lookup: (host, _options, done) => done(null, host, family),
  });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(local.port, local.host, resolve);
    });
  } catch (error) {
    socket.close();
    throw new FarbusError(`cannot listen on UDP ${local.host} port ${local.port}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  socket.removeAllListeners('error');
  return new UdpPort(socket, received);
}

/** Made by {@link bindUdp}. */
export class UdpPort {
  readonly #socket: Socket;
  #closed: Promise<void> | undefined;

  constructor(socket: Socket, received: (bytes: Uint8Array, from: RemoteInfo) => void) {
    this.#socket = socket;
    // What a peer's refusal or a missing route does to one datagram is as good as its loss.
    socket.on('error', () => undefined);
    socket.on('message', (message, from) => {
      // A plain array: slices of a Buffer would be no copies.
      received(new Uint8Array(message.buffer, message.byteOffset, message.length), from);
    });
    for (const set of [socket.setRecvBufferSize, socket.setSendBufferSize]) {
      try {
        set.call(socket, bufferSize);
      } catch {
        // Then the system's default has to do.
      }
    }
  }

  /** The port that it is bound to. */
  get port(): number {
    return this.#socket.address().port;
  }

  /** Sends a datagram, which may be reused at once. False: dropped, as too much waits. */
  send(bytes: Uint8Array, to: UdpAddress): boolean {
    if (this.#closed || this.#socket.getSendQueueSize() > maxPending) return false;
    this.#socket.send(bytes.slice(), to.port, to.host, () => undefined);
    return true;
  }

  close(): Promise<void> {
    return (this.#closed ??= new Promise((resolve) => this.#socket.close(() => resolve())));
  }
}

/** Opens a segment to one peer. Rejects with a FarbusError. */
export async function openUdp(options: UdpOptions): Promise<Segment> {
  const segment = new UdpSegment(options);
  await segment.open();
  return segment;
}

class UdpSegment extends BaseSegment {
  readonly #options: UdpOptions;
  #port: UdpPort | undefined;

  constructor(options: UdpOptions) {
    const { remote, mtu = 1500 } = options;
    super(`udp ${remote.host}:${remote.port}`, mtu);
    if (isIP(remote.host) === 0) throw new FarbusError(`${this.name}: give the peer's IP address`, { exitCode: 2 });
    this.#options = options;
  }

  async open(): Promise<void> {
    const { local, remote } = this.#options;
    this.#port = await bindUdp(local, (bytes, from) => {
      if (from.port === remote.port && from.address === remote.host) this.receive(bytes);
      else this.counters.malformed++;
    });
  }

  protected transmit(frame: Uint8Array): boolean {
    if (this.#port!.send(frame, this.#options.remote)) return true;
    this.counters.overflow++;
    return false;
  }

  protected async release(): Promise<void> {
    await this.#port?.close();
  }
}
