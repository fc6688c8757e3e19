/**
 * The common part of all segments: ports, delivery of frames to them, limits and counts. Ports of
 * one segment reach each other here, without the carrier.
 *
 * Not here: carrying frames to and from outside this process, which is the task of each subclass.
 */
import { FarbusError } from '../../base/errors.js';
import { nextIteration } from '../../base/event-loop.js';
import { isGroup, macKey, randomMac, type Mac } from './mac.js';
import {
  frameHeaderSize,
  isWholeFrame,
  maxMtu,
  minMtu,
  vlanTagSize,
  type Port,
  type PortOptions,
  type Segment,
  type SegmentCounters,
} from './segment.js';

/**
 * Largest number of frames between local ports that wait. Further frames are dropped, as by a
 * switch.
 */
const maxQueued = 4096;
/**
 * Largest number of frames delivered in one iteration of the event loop, so that two ports that
 * talk without end do not block it.
 */
const maxBatch = 256;
/** Largest number of frame arrays that are kept for reuse. */
const maxSpare = 256;

interface Waiting {
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly from: LocalPort | undefined;
}

/** The base class of segments: ports, their addresses, and the ways of frames between them. */
export abstract class BaseSegment implements Segment {
  readonly name: string;
  readonly mtu: number;
  /** Counts since the segment was opened. */
  readonly counters: SegmentCounters = {
    sent: 0,
    sentBytes: 0,
    received: 0,
    receivedBytes: 0,
    badSize: 0,
    overflow: 0,
    malformed: 0,
  };
  readonly #ports = new Set<LocalPort>();
  #queue: Waiting[] = [];
  #delivering = false;
  #spare: Uint8Array[] = [];
  #room: Uint8Array | undefined;
  #closed: Promise<void> | undefined;

  constructor(name: string, mtu: number) {
    if (!Number.isInteger(mtu) || mtu < minMtu || mtu > maxMtu) {
      throw new FarbusError(`${name}: an MTU of ${mtu} is not possible: give ${minMtu} to ${maxMtu} bytes`);
    }
    this.name = name;
    this.mtu = mtu;
  }

  /** The address of a port that does not give one. */
  protected ownMac(): Mac {
    return randomMac();
  }

  /**
   * Sends a frame to outside. The array is valid only during the call. Returns false if the frame
   * was dropped.
   */
  protected abstract transmit(frame: Uint8Array): boolean;
  /**
   * Memory for {@link Port.room}, of `maxFrame` bytes. A carrier that sends from its own memory
   * returns that.
   */
  protected room(): Uint8Array {
    return (this.#room ??= new Uint8Array(this.maxFrame));
  }

  /** Length of the longest frame, in bytes. */
  protected get maxFrame(): number {
    return frameHeaderSize + vlanTagSize + this.mtu;
  }

  /** Releases the carrier. Called once. */
  protected abstract release(): Promise<void>;
  /**
   * Called when ports were added or removed, since the carrier may have to receive other addresses.
   */
  protected portsChanged(): void {}

  /** True after {@link close} was called. */
  protected get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** The ports, for {@link portsChanged}. */
  protected get ports(): Iterable<{ readonly mac: Mac; readonly promiscuous: boolean }> {
    return this.#ports;
  }

  /** Attaches a port. */
  attach(options: PortOptions): Port {
    if (this.#closed) throw new FarbusError(`${this.name}: the segment is closed`);
    const mac = options.mac ?? this.ownMac();
    if (mac.length !== 6 || isGroup(mac)) throw new FarbusError(`${this.name}: that is no address of one station`);
    const port: LocalPort = new LocalPort(this, options, mac.slice(), {
      send: (frame) => this.#send(port, frame),
      room: () => this.room(),
      close: () => {
        if (this.#ports.delete(port)) this.portsChanged();
      },
    });
    this.#ports.add(port);
    this.portsChanged();
    return port;
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.#ports.clear();
      this.#queue = [];
      this.#spare = [];
      await this.release();
    })();
    return this.#closed;
  }

  /**
   * Delivers a frame from outside to the ports that it is addressed to. Synchronous: must not be
   * called within a port's send.
   */
  protected receive(frame: Uint8Array): void {
    if (this.#closed) return;
    if (isWholeFrame(frame, this.mtu)) this.#give(frame, undefined);
    else this.counters.badSize++;
  }

  /**
   * Delivers a copy of a frame to local ports other than `from`, in a later iteration of the event
   * loop.
   */
  protected deliverLater(frame: Uint8Array, from: Port | undefined): boolean {
    if (this.#closed) return false;
    if (this.#queue.length >= maxQueued) {
      this.counters.overflow++;
      return false;
    }
    const bytes = this.#spare.pop() ?? new Uint8Array(this.maxFrame);
    bytes.set(frame);
    this.#queue.push({ bytes, length: frame.length, from: from as LocalPort | undefined });
    this.#schedule();
    return true;
  }

  /** Routes a frame of a local port. Default: like a switch. Overridden for fault models. */
  protected route(frame: Uint8Array, from: Port): boolean {
    const key = macKey(frame);
    if (!isGroup(frame)) {
      for (const port of this.#ports) {
        if (port.key === key && port !== from) return this.deliverLater(frame, from);
      }
    }
    if (this.#wantedLocally(frame, from)) this.deliverLater(frame, from);
    return this.transmit(frame);
  }

  #send(from: LocalPort, frame: Uint8Array): boolean {
    if (!this.#ports.has(from)) return false;
    if (!isWholeFrame(frame, this.mtu)) {
      this.counters.badSize++;
      return false;
    }
    this.counters.sent++;
    this.counters.sentBytes += frame.length;
    return this.route(frame, from);
  }

  #wantedLocally(frame: Uint8Array, from: Port): boolean {
    if (this.#ports.size < 2) return false;
    const group = isGroup(frame);
    for (const port of this.#ports) if (port !== from && (group || port.promiscuous)) return true;
    return false;
  }

  #give(frame: Uint8Array, from: Port | undefined): void {
    const group = isGroup(frame);
    const key = macKey(frame);
    let given = false;
    for (const port of this.#ports) {
      if (port === from || !(group || port.promiscuous || port.key === key)) continue;
      given = true;
      port.onFrame(frame);
    }
    if (!given) return;
    this.counters.received++;
    this.counters.receivedBytes += frame.length;
  }

  #schedule(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    nextIteration(() => this.#deliver());
  }

  #deliver(): void {
    this.#delivering = false;
    const batch = this.#queue.length > maxBatch ? this.#queue.splice(0, maxBatch) : this.#queue;
    if (batch === this.#queue) this.#queue = [];
    for (const { bytes, length, from } of batch) {
      if (this.#closed) return;
      this.#give(bytes.subarray(0, length), from);
      if (this.#spare.length < maxSpare) this.#spare.push(bytes);
    }
    if (this.#queue.length > 0) this.#schedule();
  }
}

/** The functions of the segment that a port uses. */
interface PortHost {
  send(frame: Uint8Array): boolean;
  room(): Uint8Array;
  close(): void;
}

class LocalPort implements Port {
  readonly segment: Segment;
  readonly mac: Mac;
  readonly key: number;
  readonly promiscuous: boolean;
  readonly onFrame: (frame: Uint8Array) => void;
  readonly #host: PortHost;

  constructor(segment: Segment, options: PortOptions, mac: Mac, host: PortHost) {
    this.segment = segment;
    this.mac = mac;
    this.key = macKey(mac);
    this.promiscuous = options.promiscuous ?? false;
    this.onFrame = options.onFrame;
    this.#host = host;
  }

  send(frame: Uint8Array): boolean {
    return this.#host.send(frame);
  }

  room(): Uint8Array {
    return this.#host.room();
  }

  close(): void {
    this.#host.close();
  }
}
