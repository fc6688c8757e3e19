/**
 * A segment over UDP: each datagram carries one frame and nothing else, as QEMU's `-netdev dgram`
 * does. It is the simplest way to connect two processes.
 *
 * There is one peer; datagrams from other senders are dropped. A frame can be only as large as the
 * network between the two carries; within one computer up to 65000 bytes.
 *
 * Left out: encryption and authentication. Anyone who can forge the peer's address can send frames.
 */
import { createSocket, type Socket } from 'node:dgram';
import { closeSync } from 'node:fs';
import { isIP } from 'node:net';
import { FarbusError, messageOf } from '../../base/errors.js';
import { BaseSegment } from './base-segment.js';
import { bindDatagrams, Datagrams } from './datagrams.node.js';
import type { Segment } from './segment.js';
import type { UdpAddress, UdpSender } from './udp-address.js';

export interface UdpOptions {
  readonly local: UdpAddress;
  readonly remote: UdpAddress;
  /** Largest payload of a frame in bytes. Default 1500. */
  readonly mtu?: number | undefined;
}

/** Socket buffer size to request, in bytes. The kernel may grant less. */
const bufferSize = 4 << 20;
/** Bytes that may wait in the socket before datagrams are dropped. */
const maxPending = 4 << 20;

export interface BindOptions {
  readonly local: UdpAddress;
  /** Longest datagram in bytes. */
  readonly size: number;
  /** Takes each datagram. The array is valid only during the call. */
  readonly received: (bytes: Uint8Array, from: UdpSender) => void;
  /**
   * Called with the number of datagrams that {@link UdpPort.send} accepted and the system then
   * dropped.
   */
  readonly dropped: (count: number) => void;
}

/** Binds a UDP socket. Rejects with a FarbusError. */
export async function bindUdp(options: BindOptions): Promise<UdpPort> {
  const { host, port } = options.local;
  const family = isIP(host);
  if (family === 0) throw new FarbusError(`UDP ${host}: give an IP address of this computer`, { exitCode: 2 });
  const socket = createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    // Only addresses occur here, so skip the name lookup that dgram does for each datagram.
    lookup: (name, _options, done) => done(null, name, family),
  });
  let fd: number | undefined;
  try {
    fd = family === 4 ? bindDatagrams(options.local) : undefined;
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      if (fd === undefined) socket.bind(port, host, resolve);
      else socket.bind({ fd, exclusive: true }, resolve);
    });
  } catch (error) {
    socket.close();
    if (fd !== undefined) closeSync(fd);
    throw new FarbusError(`cannot listen on UDP ${host} port ${port}: ${messageOf(error)}`, { cause: error });
  }
  socket.removeAllListeners('error');
  return new UdpPort(socket, fd, options);
}

/** A bound UDP socket, created by {@link bindUdp}. */
export class UdpPort {
  readonly #socket: Socket;
  readonly #batches: Datagrams | undefined;
  #closed: Promise<void> | undefined;

  /**
   * @param fd The socket's descriptor; undefined if it is not known, which means without batches.
   */
  constructor(socket: Socket, fd: number | undefined, { size, received, dropped }: BindOptions) {
    this.#socket = socket;
    // Ignore errors of single datagrams (peer refuses, no route): they equal a lost datagram.
    socket.on('error', () => undefined);
    const batches = fd === undefined ? undefined : new Datagrams(fd, size, bufferSize, dropped);
    this.#batches = batches;
    socket.on('message', (message, from) => {
      // Make a plain array, because Buffer's `slice` does not copy.
      received(new Uint8Array(message.buffer, message.byteOffset, message.length), from);
      batches?.drain(received);
    });
    if (batches) return;
    for (const set of [socket.setRecvBufferSize, socket.setSendBufferSize]) {
      try {
        set.call(socket, bufferSize);
      } catch {
        // Keep the system's default size.
      }
    }
  }

  /** The port number that the socket is bound to. */
  get port(): number {
    return this.#socket.address().port;
  }

  /**
   * Memory to build the next datagram in, valid until something is sent. Undefined if building it
   * there saves no copy.
   */
  room(): Uint8Array | undefined {
    return this.#batches?.room();
  }

  /**
   * Sends a datagram. The caller may reuse the array immediately. Returns false if it was dropped
   * because too much waits.
   */
  send(bytes: Uint8Array, to: UdpAddress): boolean {
    if (this.#closed) return false;
    if (this.#batches) {
      this.#batches.send(bytes, to);
      return true;
    }
    if (this.#socket.getSendQueueSize() > maxPending) return false;
    this.#socket.send(bytes.slice(), to.port, to.host, () => undefined);
    return true;
  }

  close(): Promise<void> {
    if (!this.#closed) this.#batches?.close();
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
    this.#port = await bindUdp({
      local,
      size: this.maxFrame,
      received: (bytes, from) => {
        if (from.port === remote.port && from.address === remote.host) this.receive(bytes);
        else this.counters.malformed++;
      },
      dropped: (count) => (this.counters.overflow += count),
    });
  }

  protected override room(): Uint8Array {
    return this.#port?.room() ?? super.room();
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
