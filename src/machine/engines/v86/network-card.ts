/**
 * v86's network card, a Realtek 8029 (NE2000 on PCI, slot 5), behind the interface of
 * machine/network-card.ts.
 *
 * The registers and the ring are v86's. Added here are a fixed MAC address, multicast, which v86
 * does not receive by itself, and a check for room before each frame: v86 drops frames silently,
 * and takes a ring that is exactly full for an empty one.
 */
import { nextIteration } from '../../../base/event-loop.js';
import type { CardIntake, NetworkCard } from '../../network-card.js';

/** The parts of v86's card that are used here. A page has 256 bytes. */
export interface V86Ne2k {
  readonly pci_id: number;
  readonly mac: Uint8Array;
  readonly memory: Uint8Array;
  /** Command register: bit 0 is set while the card is stopped. */
  readonly cr: number;
  /** Receive configuration: bit 3 accepts multicast frames, bit 4 all frames. */
  rxcr: number;
  /**
   * The receive ring: its first page, the page after its last, the page for the next frame, the
   * last page that the driver has read.
   */
  readonly pstart: number;
  readonly pstop: number;
  readonly curpg: number;
  readonly boundary: number;
  receive(frame: Uint8Array): void;
  update_irq(): void;
}

/** The part of v86's event bus that is used here. */
export interface V86Bus {
  add_listener(event: string, listener: (data: never) => void): void;
}

/** Bytes of the header that the card stores in the ring before each frame. */
const ringHeader = 4;
const page = 256;
const acceptMulticast = 0x08;
const acceptAll = 0x10;
const stopped = 0x01;

export class V86NetworkCard implements NetworkCard {
  readonly mac: Uint8Array;
  readonly mtu = 1500;
  readonly #card: V86Ne2k;
  readonly #bus: V86Bus;
  readonly #vector: (pciId: number) => number | undefined;
  #onRoom: () => void = () => undefined;
  #full = false;

  /** @param vector The processor vector of a PCI function's interrupt. */
  constructor(card: V86Ne2k, bus: V86Bus, mac: Uint8Array, vector: (pciId: number) => number | undefined) {
    this.mac = mac.slice();
    this.#card = card;
    this.#bus = bus;
    this.#vector = vector;
    card.mac.set(mac);
    // The driver reads the MAC address from the card's memory, where each byte appears twice.
    mac.forEach((byte, at) => card.memory.fill(byte, 2 * at, 2 * at + 2));
    const update = card.update_irq.bind(card);
    // v86 also calls this when the driver acknowledges that it has taken frames out of the ring.
    card.update_irq = () => {
      update();
      if (!this.#full) return;
      this.#full = false;
      nextIteration(() => this.#onRoom());
    };
  }

  onSend(take: (frame: Uint8Array) => void): void {
    this.#bus.add_listener('net0-send', take as (data: never) => void);
  }

  onRoom(callback: () => void): void {
    this.#onRoom = callback;
  }

  receive(frame: Uint8Array): CardIntake {
    const card = this.#card;
    if (card.cr & stopped) return 'off';
    if (!this.#hasRoom(frame.length)) {
      this.#full = true;
      return 'full';
    }
    const { rxcr } = card;
    if (frame[0]! & 1 && rxcr & acceptMulticast) card.rxcr = rxcr | acceptAll;
    card.receive(frame);
    card.rxcr = rxcr;
    return 'taken';
  }

  interruptVector(): number | undefined {
    return this.#vector(this.#card.pci_id);
  }

  /**
   * Computes the free pages as v86 does, but keeps one page free, so that a full ring is not taken
   * for empty.
   */
  #hasRoom(length: number): boolean {
    const { boundary, curpg, pstart, pstop } = this.#card;
    const needed = 1 + ((Math.max(60, length) + ringHeader) >> 8);
    const free = boundary > curpg ? boundary - curpg : pstop - curpg + boundary - pstart;
    return free > needed && (pstop - pstart) * page > length;
  }
}
