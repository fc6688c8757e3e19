/**
 * Datagrams of an IPv4 UDP socket in batches, one system call for many: what Node's dgram does one by one. It waits for
 * the first of a batch, which it also receives; here is everything else. Through koffi, where it is installed.
 */
import { Vigil } from '../../base/vigil.node.js';
import type { MessageBatch } from './message-batch.node.js';
import {
  AF_INET,
  int32,
  native,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_DGRAM,
  SOL_SOCKET,
  type Native,
} from './native.node.js';
import { Outgoing } from './outgoing.node.js';
import type { UdpAddress, UdpSender } from './udp-address.js';

/** Bytes of struct sockaddr_in. */
const addressSize = 16;
/** Datagrams of one system call. */
const batchSize = 64;
/** Batches that are received before others get their turn. */
const maxRounds = 2;
/** How long a wait for the next datagram is spent awake at most, in ms. */
const vigilMs = 0.1;

/** Binds a socket. Undefined where there is no koffi; throws an error with an errno `code` where it cannot be bound. */
export function bindDatagrams({ host, port }: UdpAddress): number | undefined {
  let calls: Native;
  try {
    calls = native(host);
  } catch {
    return undefined;
  }
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
  readonly #native: Native;
  readonly #fd: number;
  readonly #incoming: MessageBatch;
  readonly #sending: MessageBatch;
  readonly #outgoing: Outgoing;
  readonly #vigil = new Vigil(vigilMs);
  /** By the objects that name where datagrams go. */
  readonly #addresses = new WeakMap<UdpAddress, Uint8Array>();
  #open = true;
  /** Who sent last, and what tells him from others. */
  #sender: UdpSender = { address: '', port: 0 };
  #senderKey = -1;

  /**
   * @param fd What {@link bindDatagrams} gave; it stays the caller's.
   * @param size Longest datagram in bytes.
   * @param dropped Told of datagrams that the system did not take.
   */
  constructor(fd: number, size: number, bufferSize: number, dropped: (count: number) => void) {
    this.#native = native('UDP');
    this.#fd = fd;
    // One byte more: what is too long is seen to be.
    this.#incoming = this.#native.batch(batchSize, size + 1, addressSize);
    this.#sending = this.#native.batch(batchSize, size, addressSize);
    this.#outgoing = new Outgoing(this.#sending, {
      transmit: (first, count) => this.#sending.send(fd, first, count),
      flushed: (lost) => {
        if (lost > 0) dropped(lost);
        this.#vigil.sent();
      },
    });
    // libuv sets it, and others could bind the same port then and take what is ours.
    this.#native.setOption(fd, SOL_SOCKET, SO_REUSEADDR, int32(0));
    this.#native.setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bufferSize);
    this.#native.setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, bufferSize);
  }

  /** Memory to make the next datagram in, until something is sent. */
  room(): Uint8Array | undefined {
    return this.#open ? this.#outgoing.room() : undefined;
  }

  /** Sends a copy of a datagram, with what else is sent in this turn; of {@link room}'s memory without copying it. */
  send(bytes: Uint8Array, to: UdpAddress): void {
    let address = this.#addresses.get(to);
    if (!address) this.#addresses.set(to, (address = socketAddress(to)));
    this.#sending.address(this.#outgoing.next).set(address);
    this.#outgoing.add(bytes);
  }

  /** Something has arrived: takes all that is there, but for what dgram has taken itself. */
  drain(received: (bytes: Uint8Array, from: UdpSender) => void): void {
    this.#vigil.arrived();
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

  /** Sends what waits and releases the memory. The descriptor is not used any more. */
  close(): void {
    this.#outgoing.flush();
    this.#open = false;
    this.#vigil.end();
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

/** A struct sockaddr_in. */
function socketAddress({ host, port }: UdpAddress): Uint8Array {
  const bytes = new Uint8Array(addressSize);
  new DataView(bytes.buffer).setUint16(0, AF_INET, true);
  bytes.set([port >> 8, port], 2);
  bytes.set(host.split('.').map(Number), 4);
  return bytes;
}
