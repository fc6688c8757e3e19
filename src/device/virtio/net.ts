/**
 * A network card (VIRTIO 1.2 §5.1) behind the interface of machine/network-card.ts: one receive
 * and one transmit queue, for engines whose board has no card of its own.
 *
 * Frames pass as they are: no checksums, no segmentation, one frame to a buffer. The driver is told
 * the address and the MTU.
 *
 * Left out: the control queue (filters, multiple queues), merged receive buffers, link status.
 */
import { nextIteration } from '../../base/event-loop.js';
import { silent, ThrottledLogger, type Logger } from '../../base/log.js';
import type { GuestMemory, GuestRange } from '../../machine/guest-memory.js';
import { GuestBuffers } from '../../machine/guest-memory.js';
import type { CardIntake, NetworkCard } from '../../machine/network-card.js';
import { Feature, NetworkConfig, NetworkQueue, bufferCountAt, frameHeader, networkType } from '../../spec/virtio.js';
import { VirtioRegisters, type VirtioState } from './registers.js';

/** Largest payload of a frame in bytes, as on an Ethernet without large frames. */
const usualMtu = 1500;
/** Ethernet header and VLAN tag; and the smallest frame: a header. */
const frameOverhead = 18;
const smallestFrame = 14;
/** Frames that the card sends in one go, before other work has its turn. */
const burst = 256;

export interface VirtioNetOptions {
  /** Guest-physical address of its registers. */
  readonly base: number;
  readonly memory: GuestMemory;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** MTU of the network. The card has no more than 1500. */
  readonly mtu: number;
  readonly log?: Logger | undefined;
}

export class VirtioNet implements NetworkCard {
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly registers: VirtioRegisters;
  readonly #memory: GuestMemory;
  readonly #log: ThrottledLogger;
  /** Header and frame, in both directions. */
  readonly #bytes: Uint8Array;
  #take: (frame: Uint8Array) => void = () => undefined;
  #onRoom: () => void = () => undefined;
  /** A frame was refused because the driver has given no buffer. */
  #full = false;
  #paused = false;
  #sending = false;

  constructor({ base, memory, mac, mtu, log }: VirtioNetOptions) {
    this.mac = mac.slice();
    this.mtu = Math.min(mtu, usualMtu);
    this.#memory = memory;
    this.#log = new ThrottledLogger(log ?? silent);
    this.#bytes = new Uint8Array(frameHeader + this.mtu + frameOverhead);
    const config = new Uint8Array(NetworkConfig.size);
    config.set(mac, NetworkConfig.mac);
    new DataView(config.buffer).setUint16(NetworkConfig.mtu, this.mtu, true);
    this.registers = new VirtioRegisters(base, memory, {
      name: 'network card',
      type: networkType,
      classCode: [0x02, 0x00, 0x00], // network controller, Ethernet
      features: [Feature.netMac, Feature.netMtu],
      queues: 2,
      config,
      notified: (queue) => (queue === NetworkQueue.transmit ? this.#send() : this.#tellRoom()),
      stopped: (fault) => this.#stopped(fault),
    });
  }

  onSend(take: (frame: Uint8Array) => void): void {
    this.#take = take;
  }

  onRoom(callback: () => void): void {
    this.#onRoom = callback;
  }

  receive(frame: Uint8Array): CardIntake {
    const queue = this.registers.queues[NetworkQueue.receive]!;
    if (!this.registers.running || !queue.enabled) return 'off';
    return this.registers.guarded(() => this.#receive(frame)) ?? 'off';
  }

  interruptVector(): number | undefined {
    return this.registers.processorVector(NetworkQueue.receive);
  }

  /** Stops using guest memory, for a snapshot. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#tellRoom();
    if (this.registers.running) this.#sendLater();
  }

  save(): VirtioState {
    return this.registers.save();
  }

  restore(state: VirtioState): void {
    this.registers.restore(state);
  }

  #receive(frame: Uint8Array): CardIntake {
    const { registers } = this;
    const queue = registers.queues[NetworkQueue.receive]!;
    const chain = this.#paused ? undefined : queue.take();
    if (!chain) {
      this.#full = true;
      return 'full';
    }
    const length = frameHeader + frame.length;
    // A buffer that is too small goes back unused, and the frame is lost.
    const fits = length <= this.#bytes.length && totalOf(chain.writable) >= length;
    if (fits) {
      this.#bytes.fill(0, 0, frameHeader);
      this.#bytes[bufferCountAt] = 1;
      this.#bytes.set(frame, frameHeader);
      new GuestBuffers(this.#memory, chain.writable).copyFrom(this.#bytes.subarray(0, length), 0);
    }
    queue.giveBack(chain.head, fits ? length : 0);
    registers.interrupt(queue);
    return fits ? 'taken' : 'off';
  }

  /** Sends the frames of the transmit queue. A driver that adds to it meanwhile has to wait. */
  #send(): void {
    const { registers } = this;
    const queue = registers.queues[NetworkQueue.transmit]!;
    if (this.#paused || !queue.enabled) return;
    let sent = 0;
    for (; sent < burst; sent++) {
      const chain = queue.take();
      if (!chain) break;
      this.#sendFrame(chain.readable);
      queue.giveBack(chain.head, 0);
    }
    if (sent > 0) registers.interrupt(queue);
    if (sent === burst) this.#sendLater();
  }

  /** Sends one frame. A frame that Ethernet cannot have is dropped, as a card would. */
  #sendFrame(readable: readonly GuestRange[]): void {
    const length = totalOf(readable);
    if (length < frameHeader + smallestFrame || length > this.#bytes.length) return;
    const bytes = this.#bytes.subarray(0, length);
    new GuestBuffers(this.#memory, readable).copyTo(bytes, 0);
    this.#take(bytes.subarray(frameHeader));
  }

  #sendLater(): void {
    if (this.#sending) return;
    this.#sending = true;
    nextIteration(() => {
      this.#sending = false;
      if (this.registers.running) this.registers.guarded(() => this.#send());
    });
  }

  #tellRoom(): void {
    if (!this.#full || this.#paused) return;
    this.#full = false;
    nextIteration(() => this.#onRoom());
  }

  #stopped(fault: string | undefined): void {
    if (fault !== undefined)
      this.#log.log('warn', 'ring', `network card: the driver's ring ${fault}; it must reset the card`);
    // Frames that wait are offered again, and dropped because the card is off.
    this.#tellRoom();
  }
}

function totalOf(ranges: readonly GuestRange[]): number {
  return ranges.reduce((sum, { length }) => sum + length, 0);
}
