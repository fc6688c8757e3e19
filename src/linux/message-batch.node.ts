/**
 * Many messages in memory that the operating system reads and writes with one call: sendmmsg(2),
 * recvmmsg(2). The structures are those of Linux on 64-bit machines. What this gains:
 * docs/notes/kernel.md, "Packet sockets".
 */
import type { Call, Koffi } from './koffi.node.js';

const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** Bytes of struct mmsghdr and of struct iovec. */
const headerSize = 64;
const vectorSize = 16;
/** Offsets of fields in struct mmsghdr, in bytes. */
const Header = { name: 0, nameLength: 8, vector: 16, vectorLength: 24, length: 56 } as const;

/** Memory for `count` messages. Must not be used after {@link MessageBatch.free}. */
export interface MessageBatch {
  readonly count: number;
  /** Memory of message `index`, `size` bytes. */
  slot(index: number): Uint8Array;
  /**
   * Destination or source of message `index`, a struct sockaddr. Empty if the socket needs none.
   */
  address(index: number): Uint8Array;
  /**
   * Sends `count` messages, beginning with `first`, with the lengths set by {@link setLength}.
   * Returns the number sent, or a negative errno.
   */
  send(fd: number, first: number, count: number): number;
  setLength(index: number, bytes: number): void;
  /** The length set by {@link setLength}. */
  sendLength(index: number): number;
  /** Receives the messages that have arrived. Returns their number, or a negative errno. */
  receive(fd: number): number;
  /** Length of a received message in bytes; greater than `size` if the message was cut. */
  length(index: number): number;
  free(): void;
}

interface Calls {
  readonly sendmmsg: Call;
  readonly recvmmsg: Call;
}

let calls: Calls | undefined;

export function messageBatch(koffi: Koffi, count: number, size: number, addressSize = 0): MessageBatch {
  const { sendmmsg, recvmmsg } = (calls ??= {
    sendmmsg: koffi.load(null).func('int sendmmsg(int, void *, uint, int)') as Call,
    recvmmsg: koffi.load(null).func('int recvmmsg(int, void *, uint, int, void *)') as Call,
  });
  const vectorAt = (index: number): number => count * headerSize + index * vectorSize;
  const addressAt = (index: number): number => vectorAt(count) + index * addressSize;
  const slotAt = (index: number): number => addressAt(count) + index * size;
  const total = slotAt(count);
  // Allocate from the C library: the structures hold pointers into this memory, and the garbage
  // collector must neither move nor free it.
  const pointer = koffi.alloc('uint8_t', total) as unknown;
  const base = koffi.address(pointer);
  const memory = koffi.view(pointer, total) as ArrayBuffer;
  const view = new DataView(memory);
  new Uint8Array(memory).fill(0);
  const slots: Uint8Array[] = [];
  const addresses: Uint8Array[] = [];
  const headerPointers: bigint[] = [];
  for (let index = 0; index < count; index++) {
    const header = index * headerSize;
    if (addressSize > 0) {
      view.setBigUint64(header + Header.name, base + BigInt(addressAt(index)), true);
      view.setUint32(header + Header.nameLength, addressSize, true);
    }
    view.setBigUint64(header + Header.vector, base + BigInt(vectorAt(index)), true);
    view.setBigUint64(header + Header.vectorLength, 1n, true);
    view.setBigUint64(vectorAt(index), base + BigInt(slotAt(index)), true);
    view.setUint32(vectorAt(index) + 8, size, true);
    slots.push(new Uint8Array(memory, slotAt(index), size));
    addresses.push(new Uint8Array(memory, addressAt(index), addressSize));
    headerPointers.push(base + BigInt(header));
  }
  const counted = (result: number): number => (result < 0 ? -koffi.errno() : result);
  return {
    count,
    slot: (index) => slots[index]!,
    address: (index) => addresses[index]!,
    setLength: (index, bytes) => view.setUint32(vectorAt(index) + 8, bytes, true),
    sendLength: (index) => view.getUint32(vectorAt(index) + 8, true),
    send: (fd, first, number) => counted(sendmmsg(fd, headerPointers[first], number, MSG_DONTWAIT)),
    receive: (fd) => {
      const received = counted(recvmmsg(fd, headerPointers[0], count, MSG_DONTWAIT | MSG_TRUNC, null));
      // recvmmsg(2) has overwritten the size of each address field with the address's length:
      // restore it.
      if (addressSize > 0) {
        for (let index = 0; index < received; index++) {
          view.setUint32(index * headerSize + Header.nameLength, addressSize, true);
        }
      }
      return received;
    },
    length: (index) => view.getUint32(index * headerSize + Header.length, true),
    free: () => koffi.free(pointer),
  };
}
