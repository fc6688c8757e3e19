/**
 * Sends and receives datagrams of an IPv4 UDP socket in batches, many with one system call.
 *
 * Node's dgram handles them one by one. It still waits for the first datagram of a batch and
 * receives that one; all others are handled here. Left out: IPv6.
 */
import { SpinWait } from '../../base/spin-wait.node.js';
import type { MessageBatch } from '../../linux/message-batch.node.js';
import {
  AF_INET,
  int32,
  socketCalls,
  socketCallsIfAny,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_DGRAM,
  SOL_SOCKET,
  type SocketCalls,
} from '../../linux/sockets.node.js';
import { Outgoing } from './outgoing.node.js';
import type { UdpAddress, UdpSender } from './udp-address.js';

/** Bytes of struct sockaddr_in. */
const addressSize = 16;
/** Largest number of datagrams sent or received with one system call. Chosen, not measured. */
const batchSize = 64;
/** Batches received before the event loop goes on. Chosen, not measured. */
const maxRounds = 2;
/** Longest spin wait for the next datagram, in ms. Chosen, not measured. */
const spinMs = 0.1;

/**
 * Binds a socket and returns its descriptor. Returns undefined without koffi. Throws an error with
 * an errno `code` if it cannot bind.
 */
export function bindDatagrams({ host, port }: UdpAddress): number | undefined {
  const calls = socketCallsIfAny();
  if (!calls) return undefined;
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  try {
    calls.bind(fd, socketAddress({ host, port }));
    return fd;
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

export class Datagrams {
  readonly #calls: SocketCalls;
  readonly #fd: number;
  readonly #incoming: MessageBatch;
  readonly #sending: MessageBatch;
  readonly #outgoing: Outgoing;
  readonly #spin = new SpinWait(spinMs);
  /** The socket address of each destination object. */
  readonly #addresses = new WeakMap<UdpAddress, Uint8Array>();
  #open = true;
  /**
   * The last sender, and its address and port as one number, so that it is not decoded again for
   * each datagram.
   */
  #sender: UdpSender = { address: '', port: 0 };
  #senderKey = -1;

  /**
   * @param fd Descriptor from {@link bindDatagrams}; the caller keeps its ownership.
   * @param size Longest datagram in bytes.
   * @param dropped Called with the number of datagrams that the system did not take.
   */
  constructor(fd: number, size: number, bufferSize: number, dropped: (count: number) => void) {
    this.#calls = socketCalls('UDP');
    this.#fd = fd;
    // One byte more than `size`, so that a datagram that is too long is noticed.
    this.#incoming = this.#calls.batch(batchSize, size + 1, addressSize);
    this.#sending = this.#calls.batch(batchSize, size, addressSize);
    this.#outgoing = new Outgoing(this.#sending, {
      transmit: (first, count) => this.#sending.send(fd, first, count),
      flushed: (lost) => {
        if (lost > 0) dropped(lost);
        this.#spin.sent();
      },
    });
    // libuv sets SO_REUSEADDR. With it, another process could bind the same port and receive our
    // datagrams.
    this.#calls.setOption(fd, SOL_SOCKET, SO_REUSEADDR, int32(0));
    this.#calls.setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bufferSize);
    this.#calls.setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, bufferSize);
  }

  /** Memory to build the next datagram in, valid until something is sent. */
  room(): Uint8Array | undefined {
    return this.#open ? this.#outgoing.room() : undefined;
  }

  /**
   * Sends a datagram together with the others of this iteration of the event loop. Copies it unless
   * it was built in {@link room}.
   */
  send(bytes: Uint8Array, to: UdpAddress): void {
    let address = this.#addresses.get(to);
    if (!address) this.#addresses.set(to, (address = socketAddress(to)));
    this.#sending.address(this.#outgoing.next).set(address);
    this.#outgoing.add(bytes);
  }

  /** Receives all datagrams that have arrived, except the one that dgram has received itself. */
  drain(received: (bytes: Uint8Array, from: UdpSender) => void): void {
    this.#spin.arrived();
    for (let round = 0; round < maxRounds && this.#open; round++) {
      const count = this.#incoming.receive(this.#fd);
      for (let index = 0; index < count && this.#open; index++) {
        const slot = this.#incoming.slot(index);
        const length = Math.min(this.#incoming.length(index), slot.length);
        received(slot.subarray(0, length), this.#senderOf(this.#incoming.address(index)));
      }
      if (count < batchSize) return;
    }
  }

  /** Sends the waiting datagrams and frees the memory. The descriptor is not used afterwards. */
  close(): void {
    this.#outgoing.flush();
    this.#open = false;
    this.#spin.end();
    this.#incoming.free();
    this.#sending.free();
  }

  #senderOf(address: Uint8Array): UdpSender {
    const port = (address[2]! << 8) | address[3]!;
    const host = ((address[4]! << 24) | (address[5]! << 16) | (address[6]! << 8) | address[7]!) >>> 0;
    const key = host * 0x1_0000 + port;
    if (key !== this.#senderKey) {
      this.#senderKey = key;
      this.#sender = { address: address.subarray(4, 8).join('.'), port };
    }
    return this.#sender;
  }
}

/** Builds a struct sockaddr_in. */
function socketAddress({ host, port }: UdpAddress): Uint8Array {
  const bytes = new Uint8Array(addressSize);
  new DataView(bytes.buffer).setUint16(0, AF_INET, true);
  bytes.set([port >> 8, port], 2);
  bytes.set(host.split('.').map(Number), 4);
  return bytes;
}
