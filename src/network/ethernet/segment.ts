/**
 * Ethernet segments: networks of frames. Whoever has a port on one sends frames to it and is given those that are for
 * its address; what carries them (memory, UDP, an interface of the host) is the segment's business. A frame is
 * destination, source, type and payload, without preamble and checksum (IEEE 802.3 section 3.1.1). As on any Ethernet,
 * frames can be lost, repeated and change order, and nobody is told.
 */
import type { Mac } from './mac.js';

/** Destination, source and type, in bytes. */
export const frameHeaderSize = 14;
/** What IEEE 802.1Q puts between source and type, in bytes: not counted in the MTU. */
export const vlanTagSize = 4;
/** The smallest MTU of Ethernet and the largest that segments here take (what one UDP datagram carries), in bytes. */
export const minMtu = 68;
export const maxMtu = 65_000;

/** Frames of a segment since it was opened. */
export interface SegmentCounters {
  /** Frames that ports sent, and their bytes. */
  sent: number;
  sentBytes: number;
  /** Frames that were given to ports; one that several have counts once. */
  received: number;
  receivedBytes: number;
  /** Dropped: longer than the MTU has it, or with no whole header. */
  badSize: number;
  /** Dropped: too many were waiting, here or in the operating system. */
  overflow: number;
  /** Dropped: came from outside and was not in the form that the carrier prescribes, or from nobody that may send. */
  malformed: number;
}

export interface PortOptions {
  /** The port's own address; default: the segment's own where it has one, else a random one. */
  readonly mac?: Mac;
  /** Give it all frames, whomever they are for. Default false: those for its address, multicast and broadcast. */
  readonly promiscuous?: boolean;
  /**
   * Takes a frame. The array is valid during the call only and is not to be changed. It must not throw. Never called
   * within {@link Port.send}.
   */
  readonly onFrame: (frame: Uint8Array) => void;
}

/** A station's place on a segment. */
export interface Port {
  readonly mac: Mac;
  readonly segment: Segment;
  /**
   * Memory for one frame of any length that the segment carries, to make the next one in: what {@link send} is given of
   * it, from its beginning on, is not copied where the carrier can send from there. What it holds is undefined. It is
   * valid until something is sent on the segment, and not over an `await`.
   */
  room(): Uint8Array;
  /**
   * Sends a frame, whose source need not be {@link mac}. It is copied if it is kept. Does nothing on a closed port.
   * @returns false where it was dropped at once: over the MTU, or nothing more can wait. True promises nothing.
   */
  send(frame: Uint8Array): boolean;
  /** Leaves the segment. Idempotent. No frame is given after it. */
  close(): void;
}

export interface Segment {
  /** For messages: "eth0", "vxlan 5". */
  readonly name: string;
  /** Most bytes of payload in a frame, type excluded: 1500; 9000 where frames are jumbo. */
  readonly mtu: number;
  readonly counters: Readonly<SegmentCounters>;
  attach(options: PortOptions): Port;
  /** Closes it for all its ports. Idempotent. */
  close(): Promise<void>;
}

/** Whether a frame has a header and no more payload than `mtu`; a VLAN tag does not count. */
export function isWholeFrame(frame: Uint8Array, mtu: number): boolean {
  const { length } = frame;
  if (length < frameHeaderSize) return false;
  if (length <= frameHeaderSize + mtu) return true;
  return length <= frameHeaderSize + vlanTagSize + mtu && frame[12] === 0x81 && frame[13] === 0x00;
}
