/**
 * v86's network card, a Realtek 8029 (NE2000 on PCI, slot 5), behind the seam of machine/network-card.ts. Its registers
 * and ring are v86's; what is added here is a fixed address, room that is asked for before a frame is put in (v86 drops
 * frames silently, and takes a ring that is exactly full for an empty one), and multicast, which v86 leaves out.
 */
import { nextTurn } from '../../base/turn.js';
import type { CardIntake, NetworkCard } from '../network-card.js';

/** What is used of v86's model of the card; pages are of 256 bytes. */
export interface V86Ne2k {
  readonly pci_id: number;
  readonly mac: Uint8Array;
  readonly memory: Uint8Array;
  /** Command register: bit 0 says that it is stopped. */
  readonly cr: number;
  /** Receive configuration: bit 3 accepts multicast, bit 4 everything. */
  rxcr: number;
  /** First and last page of the ring, the page that the next frame goes to, the last one that the driver has read. */
  readonly pstart: number;
  readonly pstop: number;
  readonly curpg: number;
  readonly boundary: number;
  receive(frame: Uint8Array): void;
  update_irq(): void;
}

/** What is used of v86's bus of events. */
export interface V86Bus {
  add_listener(event: string, listener: (data: never) => void): void;
}

/** What the ring has to hold besides a frame: the card's header of a frame, in bytes. */
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

  /** @param vector Where the interrupt of a PCI function comes to the processor. */
  constructor(card: V86Ne2k, bus: V86Bus, mac: Uint8Array, vector: (pciId: number) => number | undefined) {
    this.mac = mac.slice();
    this.#card = card;
    this.#bus = bus;
    this.#vector = vector;
    card.mac.set(mac);
    // The driver reads its address from the card's memory, each byte twice.
    mac.forEach((byte, at) => card.memory.fill(byte, 2 * at, 2 * at + 2));
    const update = card.update_irq.bind(card);
    // Called when the driver has acknowledged what it has taken out of the ring, too.
    card.update_irq = () => {
      update();
      if (!this.#full) return;
      this.#full = false;
      nextTurn(() => this.#onRoom());
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

  /** As v86 counts, but that one page stays free. */
  #hasRoom(length: number): boolean {
    const { boundary, curpg, pstart, pstop } = this.#card;
    const needed = 1 + ((Math.max(60, length) + ringHeader) >> 8);
    const free = boundary > curpg ? boundary - curpg : pstop - curpg + boundary - pstart;
    return free > needed && (pstop - pstart) * page > length;
  }
}
