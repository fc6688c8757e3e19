/**
 * Ethernet segments: networks of frames.
 *
 * A station has a port on a segment. It sends frames through the port, and receives the frames that
 * are addressed to it. How frames are carried (memory, UDP, an interface of the host) is the
 * segment's business. A frame consists of destination, source, type and payload, without preamble
 * and checksum (IEEE 802.3 section 3.1.1). As on any Ethernet, frames can be lost, duplicated and
 * reordered without notice.
 *
 * Not here: the carriers (hub.ts, packet.node.ts, tap.node.ts, udp.node.ts, vxlan.node.ts).
 */
import type { Mac } from './mac.js';

/** Bytes of destination, source and type. */
export const frameHeaderSize = 14;
/** Bytes of an IEEE 802.1Q tag between source and type. It does not count towards the MTU. */
export const vlanTagSize = 4;
/** Smallest and largest MTU in bytes. The largest is what one UDP datagram can carry. */
export const minMtu = 68;
export const maxMtu = 65_000;

/** Counts of frames since the segment was opened. */
export interface SegmentCounters {
  /** Frames that ports sent, and their bytes. */
  sent: number;
  /** Bytes of the sent frames. */
  sentBytes: number;
  /**
   * Frames that were delivered to ports, and their bytes. A frame for several ports counts once.
   */
  received: number;
  /** Bytes of the received frames. */
  receivedBytes: number;
  /** Dropped: longer than the MTU allows, or shorter than a header. */
  badSize: number;
  /** Dropped: too many frames were waiting, here or in the operating system. */
  overflow: number;
  /**
   * Dropped: arrived from outside in a form that the carrier does not allow, or from an unknown
   * sender.
   */
  malformed: number;
}

/** Options of {@link Segment.attach}. */
export interface PortOptions {
  /** The port's own address. Default: the segment's own if it has one, else a random one. */
  readonly mac?: Mac;
  /**
   * Deliver all frames, whatever their destination. Default false: only those for the port's
   * address, multicast and broadcast.
   */
  readonly promiscuous?: boolean;
  /**
   * Takes a frame. The array is valid only during the call and must not be changed. The function
   * must not throw. It is never called within {@link Port.send}.
   */
  readonly onFrame: (frame: Uint8Array) => void;
}

/** A station's connection to a segment. */
export interface Port {
  /** Its MAC address. */
  readonly mac: Mac;
  /** The segment to which it is attached. */
  readonly segment: Segment;
  /**
   * Memory to build the next frame in, large enough for any frame of the segment. If {@link send}
   * is given the beginning of this memory, a carrier that can send from it does not copy. Its
   * content is undefined. It is valid until something is sent on the segment, and not across an
   * `await`.
   */
  room(): Uint8Array;
  /**
   * Sends a frame. Its source address need not be {@link mac}. The caller may reuse the array
   * afterwards. Does nothing on a closed port.
   * @returns false if the frame was dropped immediately: it exceeds the MTU, or too many frames
   *   wait. True does not promise delivery.
   */
  send(frame: Uint8Array): boolean;
  /** Leaves the segment; no frame is delivered afterwards. Idempotent. */
  close(): void;
}

/** An Ethernet segment, real or virtual, to which stations attach ports. */
export interface Segment {
  /** Name for messages, for example "eth0" or "vxlan 5". */
  readonly name: string;
  /**
   * Largest payload of a frame in bytes, without the type: for example 1500, or 9000 with jumbo
   * frames.
   */
  readonly mtu: number;
  /** Counts since the segment was opened. */
  readonly counters: Readonly<SegmentCounters>;
  /** Attaches a port. */
  attach(options: PortOptions): Port;
  /** Closes the segment and all its ports. Idempotent. */
  close(): Promise<void>;
}

/**
 * True if the frame has a whole header and at most `mtu` bytes of payload. A VLAN tag does not
 * count.
 */
export function isWholeFrame(frame: Uint8Array, mtu: number): boolean {
  const { length } = frame;
  if (length < frameHeaderSize) return false;
  if (length <= frameHeaderSize + mtu) return true;
  return length <= frameHeaderSize + vlanTagSize + mtu && frame[12] === 0x81 && frame[13] === 0x00;
}
