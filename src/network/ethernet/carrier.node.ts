/**
 * A segment on a descriptor of the operating system. Frames are sent and received in batches, many
 * with one system call. If the interface goes away, it is opened again when it is back.
 *
 * Not here: opening the descriptor (packet.node.ts, tap.node.ts).
 */
import { messageOf } from '../../base/errors.js';
import { silent, ThrottledLogger, type Logger } from '../../base/log.js';
import { SpinWait } from '../../base/spin-wait.node.js';
import { BaseSegment } from './base-segment.js';
import { macKey, type Mac } from './mac.js';
import type { MessageBatch } from '../../linux/message-batch.node.js';
import { socketCalls, type SocketCalls } from '../../linux/sockets.node.js';
import { Outgoing } from './outgoing.node.js';
import { Readable } from './readable.node.js';

/** Largest number of frames sent or received with one system call. Chosen, not measured. */
const batchSize = 64;
/**
 * Batches received before the event loop goes on; for a TAP device, frames. Chosen, not measured.
 */
const maxRounds = 2;
const maxReads = 64;
/** Longest spin wait for the next frame, in ms. Chosen, not measured. */
const spinMs = 0.1;
/** Pause before an interface that went away is opened again, in ms. */
const reopenMs = 500;

export interface CarrierOptions {
  /** Name for messages. */
  readonly name: string;
  readonly mtu: number;
  /** The interface's own address; undefined if ports must not use it. */
  readonly mac?: Mac | undefined;
  /** True if sendmmsg(2) and recvmmsg(2) work on the descriptor. */
  readonly isSocket: boolean;
  /** Opens the descriptor. Throws if it cannot. */
  readonly open: () => number;
  /** Switches the interface to promiscuous mode. Default: the interface takes all frames anyway. */
  readonly takeAll?: (fd: number) => void;
  readonly log?: Logger | undefined;
}

export class CarrierSegment extends BaseSegment {
  readonly #options: CarrierOptions;
  readonly #calls: SocketCalls;
  readonly #log: ThrottledLogger;
  readonly #incoming: MessageBatch;
  readonly #sending: MessageBatch;
  readonly #outgoing: Outgoing;
  readonly #spin = new SpinWait(spinMs);
  #readable: Readable | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(options: CarrierOptions) {
    super(options.name, options.mtu);
    this.#options = options;
    this.#calls = socketCalls(options.name);
    this.#log = new ThrottledLogger(options.log ?? silent);
    this.#incoming = this.#calls.batch(batchSize, this.maxFrame);
    this.#sending = this.#calls.batch(batchSize, this.maxFrame);
    this.#outgoing = new Outgoing(this.#sending, {
      transmit: (first, count) => this.#transmit(first, count),
      flushed: (lost) => {
        this.counters.overflow += lost;
        this.#spin.sent();
      },
    });
    this.#open();
  }

  protected override ownMac(): Mac {
    return this.#options.mac ?? super.ownMac();
  }

  /**
   * If a port has another address than the interface, it receives frames only in promiscuous mode.
   */
  protected override portsChanged(): void {
    const { mac, takeAll } = this.#options;
    if (!this.#readable || !takeAll) return;
    const own = mac && macKey(mac);
    for (const port of this.ports) {
      if (port.promiscuous || macKey(port.mac) !== own) return takeAll(this.#readable.fd);
    }
  }

  protected transmit(frame: Uint8Array): boolean {
    if (!this.#readable) {
      this.counters.overflow++;
      return false;
    }
    this.#outgoing.add(frame);
    return true;
  }

  protected override room(): Uint8Array {
    // A closed segment has freed its batch memory.
    return this.closed ? super.room() : this.#outgoing.room();
  }

  protected release(): Promise<void> {
    clearTimeout(this.#retry);
    this.#outgoing.flush();
    this.#spin.end();
    this.#readable?.close();
    this.#readable = undefined;
    this.#incoming.free();
    this.#sending.free();
    return Promise.resolve();
  }

  #open(): void {
    const fd = this.#options.open();
    // Offloads of the interface may have joined frames beyond the MTU. They are read whole, and
    // dropped.
    this.#readable = new Readable(this.#calls, fd, 1 << 16, {
      frame: (frame) => {
        this.#spin.arrived();
        this.receive(frame);
        this.#drain();
      },
      failed: (error) => this.#down(error),
    });
    this.portsChanged();
  }

  /** Receives the further frames that have arrived. */
  #drain(): void {
    if (!this.#options.isSocket) return this.#drainDevice();
    for (let round = 0; round < maxRounds && this.#readable && !this.closed; round++) {
      const count = this.#incoming.receive(this.#readable.fd);
      for (let index = 0; index < count && !this.closed; index++) {
        const length = this.#incoming.length(index);
        const slot = this.#incoming.slot(index);
        if (length > slot.length) this.counters.badSize++;
        else this.receive(slot.subarray(0, length));
      }
      if (count < batchSize) return;
    }
  }

  /** A TAP device returns one frame for each read(2). */
  #drainDevice(): void {
    const slot = this.#incoming.slot(0);
    for (let frames = 0; frames < maxReads && this.#readable && !this.closed; frames++) {
      const length = this.#calls.read(this.#readable.fd, slot);
      if (length <= 0) return;
      this.receive(slot.subarray(0, length));
    }
  }

  #transmit(first: number, count: number): number {
    const fd = this.#readable?.fd;
    if (fd === undefined) return 0;
    if (this.#options.isSocket) return this.#sending.send(fd, first, count);
    const length = this.#sending.sendLength(first);
    return this.#calls.write(fd, this.#sending.slot(first).subarray(0, length)) > 0 ? 1 : 0;
  }

  #down(error: Error | undefined): void {
    this.#readable = undefined;
    if (this.closed) return;
    this.#log.log('warn', 'down', `${this.name}: no frames${error ? ` (${messageOf(error)})` : ''}; waiting for it`);
    this.#reopen();
  }

  #reopen(): void {
    this.#retry = setTimeout(() => {
      try {
        this.#open();
        this.#log.log('info', 'up', `${this.name}: the interface is up again`);
      } catch (error) {
        this.#log.log('debug', 'retry', messageOf(error));
        this.#reopen();
      }
    }, reopenMs);
  }
}
