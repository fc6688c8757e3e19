/**
 * Segments on a descriptor of the operating system: frames in batches, one system call for many, and opened again when
 * the interface was away for a while. What descriptor it is, packet.node.ts and tap.node.ts know.
 */
import { messageOf } from '../../base/errors.js';
import { silent, ThrottledLogger, type Logger } from '../../base/log.js';
import { BaseSegment } from './base-segment.js';
import { macKey, type Mac } from './mac.js';
import { native, type MessageBatch, type Native } from './native.node.js';
import { Readable } from './readable.node.js';
import { frameHeaderSize, vlanTagSize } from './segment.js';

/** Frames that are sent or received by one system call. */
const batchSize = 64;
/** Batches that are received before others get their turn. */
const maxRounds = 8;
/** Pause before an interface that went away is opened again, in ms. */
const reopenMs = 500;

export interface CarrierOptions {
  /** For messages. */
  readonly name: string;
  readonly mtu: number;
  /** The interface's own address, where a port of it may use that. */
  readonly mac?: Mac | undefined;
  /** sendmmsg(2) and recvmmsg(2) work on it. */
  readonly isSocket: boolean;
  /** Opens the descriptor. */
  readonly open: () => number;
  /** Makes the interface take all frames, whomever they are for. Default: it does. */
  readonly takeAll?: (fd: number) => void;
  readonly log?: Logger | undefined;
}

export class CarrierSegment extends BaseSegment {
  readonly #options: CarrierOptions;
  readonly #native: Native;
  readonly #log: ThrottledLogger;
  readonly #incoming: MessageBatch;
  readonly #outgoing: MessageBatch;
  #queued = 0;
  #readable: Readable | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(options: CarrierOptions) {
    super(options.name, options.mtu);
    this.#options = options;
    this.#native = native(options.name);
    this.#log = new ThrottledLogger(options.log ?? silent);
    const size = frameHeaderSize + vlanTagSize + options.mtu;
    this.#incoming = this.#native.batch(batchSize, size);
    this.#outgoing = this.#native.batch(batchSize, size);
    this.#open();
  }

  protected override ownMac(): Mac {
    return this.#options.mac ?? super.ownMac();
  }

  /** A port with another address than the interface's is heard only if the interface takes all frames. */
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
    if (this.#queued === batchSize) this.#flush();
    this.#outgoing.slot(this.#queued).set(frame);
    this.#outgoing.setLength(this.#queued, frame.length);
    if (this.#queued++ === 0) queueMicrotask(() => this.#flush());
    return true;
  }

  protected release(): Promise<void> {
    clearTimeout(this.#retry);
    this.#flush();
    this.#readable?.close();
    this.#readable = undefined;
    this.#incoming.free();
    this.#outgoing.free();
    return Promise.resolve();
  }

  #open(): void {
    const fd = this.#options.open();
    // What is longer than the MTU has it was put together by the interface's offloads, and is dropped.
    this.#readable = new Readable(this.#native, fd, 1 << 16, {
      frame: (frame) => {
        this.receive(frame);
        this.#drain();
      },
      failed: (error) => this.#down(error),
    });
    this.portsChanged();
  }

  /** Takes what else has arrived. */
  #drain(): void {
    for (let round = 0; round < maxRounds && this.#readable && !this.closed; round++) {
      if (!this.#options.isSocket) {
        // A TAP device gives one frame a call.
        const slot = this.#incoming.slot(0);
        const length = this.#native.read(this.#readable.fd, slot);
        if (length <= 0) return;
        this.receive(slot.subarray(0, length));
        continue;
      }
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

  #flush(): void {
    const count = this.#queued;
    this.#queued = 0;
    if (!this.#readable) return;
    let sent = 0;
    while (sent < count) {
      const result = this.#sendFrom(this.#readable.fd, sent, count - sent);
      if (result <= 0) break;
      sent += result;
    }
    // As on a wire: what does not fit into the queue is lost.
    this.counters.overflow += count - sent;
  }

  #sendFrom(fd: number, first: number, count: number): number {
    if (this.#options.isSocket) return this.#outgoing.send(fd, first, count);
    const length = this.#outgoing.sendLength(first);
    return this.#native.write(fd, this.#outgoing.slot(first).subarray(0, length)) > 0 ? 1 : 0;
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
        this.#log.log('info', 'up', `${this.name}: there again`);
      } catch (error) {
        this.#log.log('debug', 'retry', messageOf(error));
        this.#reopen();
      }
    }, reopenMs);
  }
}
