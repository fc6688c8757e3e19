/**
 * The network adapter of a computer (902, 912), shared by its hypervisor and its operating system under one address: the
 * NIA receive-interrupt handler 280 ([SYS] fig. 9). Each frame that arrives comes here first. What a claim says is the
 * hypervisor's goes to the protocol that made the claim (281, 400); everything else goes to the operating system's card,
 * as it is and in order, and raises its interrupt (289). What the operating system sends goes out as it is, except frames
 * that pose as the hypervisor's.
 *
 * A protocol sees its part of the adapter as a segment of its own, so targets and initiators need not know. The guest's
 * card has an MTU of its own: on a segment of larger frames, the hypervisor's may be larger and the guest's are not.
 * Left out: addresses that the guest gives its card, and its promiscuous mode; the adapter hears its own address,
 * multicast and broadcast.
 */
import { FarbusError } from '../base/errors.js';
import { Steps } from '../base/steps.js';
import type { NetworkCard } from '../machine/network-card.js';
import type { FrameClaim } from '../network/ethernet/claim.js';
import { macKey, type Mac } from '../network/ethernet/mac.js';
import {
  isWholeFrame,
  type Port,
  type PortOptions,
  type Segment,
  type SegmentCounters,
} from '../network/ethernet/segment.js';

/** Frames since the adapter was made. */
export interface AdapterCounters {
  /** Given to the operating system's card, and sent by it. */
  toGuest: number;
  fromGuest: number;
  /** Given to protocols of the hypervisor, and sent by them. */
  toHypervisor: number;
  fromHypervisor: number;
  /** Dropped: discovery of others, or for a protocol that has ended; it is not for operating systems. */
  hidden: number;
  /** Dropped: too long for the operating system's card. */
  oversized: number;
  /** Dropped: the operating system does not take frames, or not as fast as they come. */
  off: number;
  overflow: number;
  /** Dropped: the operating system sent a frame as only the hypervisor may. */
  posing: number;
}

export interface SharedAdapterOptions {
  /** The computer's address on the segment. */
  readonly mac: Mac;
  readonly steps?: Steps;
}

/** Frames for the operating system that may wait until its card has room. */
const maxWaiting = 512;

export class SharedAdapter {
  readonly mac: Mac;
  readonly segment: Segment;
  readonly counters: AdapterCounters = {
    toGuest: 0,
    fromGuest: 0,
    toHypervisor: 0,
    fromHypervisor: 0,
    hidden: 0,
    oversized: 0,
    off: 0,
    overflow: 0,
    posing: 0,
  };
  readonly #port: Port;
  readonly #steps: Steps;
  readonly #shares: Share[] = [];
  #card: NetworkCard | undefined;
  #onReceiver: (() => void) | undefined;
  #waiting: Uint8Array[] = [];

  constructor(segment: Segment, { mac, steps }: SharedAdapterOptions) {
    this.segment = segment;
    this.#steps = steps ?? new Steps();
    this.#port = segment.attach({ mac, onFrame: (frame) => this.#arrived(frame) });
    this.mac = this.#port.mac;
  }

  /** The part of the adapter that carries the frames of `claim`; closing it leaves the segment itself open. */
  share(claim: FrameClaim): Segment {
    const share = new Share(claim, this.#port, () => this.counters.fromHypervisor++);
    this.#shares.push(share);
    return share;
  }

  /**
   * Connects the operating system's card, whose address has to be the adapter's. `onReceiver` is called once, when the
   * operating system has got its first frame ([SYS] fig. 7, step 385).
   */
  connect(card: NetworkCard, onReceiver: (() => void) | undefined = undefined): void {
    if (macKey(card.mac) !== macKey(this.mac)) throw new FarbusError('the network card has another address');
    this.#card = card;
    this.#onReceiver = onReceiver;
    card.onSend((frame) => this.#sent(frame));
    card.onRoom(() => this.#drain());
  }

  /** Leaves the segment, which stays open. */
  close(): void {
    this.#port.close();
    this.#waiting = [];
  }

  #arrived(frame: Uint8Array): void {
    let hidden = false;
    let own = false;
    for (const share of this.#shares) {
      const owner = share.claim.incoming(frame);
      if (owner === 'hidden' || (owner === 'own' && !share.listens)) hidden = true;
      if (owner !== 'own' || !share.listens) continue;
      own = true;
      this.counters.toHypervisor++;
      if (this.#steps.on) {
        const tag = share.claim.tagOf(frame);
        this.#steps.step(tag, '280', `a frame of ${frame.length} bytes has arrived`);
        this.#steps.step(tag, '281', `it is for the ${share.claim.name}`);
      }
      share.receive(frame);
    }
    if (own) return;
    if (hidden) this.counters.hidden++;
    else this.#forGuest(frame);
  }

  #forGuest(frame: Uint8Array): void {
    const card = this.#card;
    if (!card) {
      this.counters.off++;
    } else if (!isWholeFrame(frame, card.mtu)) {
      this.counters.oversized++;
    } else if (this.#waiting.length > 0) {
      this.#wait(frame);
    } else if (!this.#give(card, frame)) {
      this.#wait(frame);
    }
  }

  /** False: the card has no room now. */
  #give(card: NetworkCard, frame: Uint8Array): boolean {
    const intake = card.receive(frame);
    if (intake === 'full') return false;
    if (intake === 'off') {
      this.counters.off++;
      return true;
    }
    this.counters.toGuest++;
    this.#onReceiver?.();
    this.#onReceiver = undefined;
    if (this.#steps.on) {
      this.#steps.step(0, '289', `a frame of ${frame.length} bytes goes to the operating system's receive handler`);
    }
    return true;
  }

  #wait(frame: Uint8Array): void {
    if (this.#waiting.length < maxWaiting) this.#waiting.push(frame.slice());
    else this.counters.overflow++;
  }

  #drain(): void {
    const card = this.#card!;
    let done = 0;
    while (done < this.#waiting.length && this.#give(card, this.#waiting[done]!)) done++;
    this.#waiting.splice(0, done);
  }

  /** Within the guest's instruction. */
  #sent(frame: Uint8Array): void {
    if (this.#shares.some(({ claim }) => claim.poses(frame))) {
      this.counters.posing++;
      return;
    }
    this.counters.fromGuest++;
    this.#port.send(frame);
  }
}

/** A claim's part of an adapter, as a segment with one port. */
class Share implements Segment {
  readonly claim: FrameClaim;
  readonly name: string;
  readonly mtu: number;
  readonly #port: Port;
  readonly #sending: () => void;
  #onFrame: PortOptions['onFrame'] | undefined;

  /** @param sending Is called for each frame that is sent. */
  constructor(claim: FrameClaim, port: Port, sending: () => void) {
    this.claim = claim;
    this.name = port.segment.name;
    this.mtu = port.segment.mtu;
    this.#port = port;
    this.#sending = sending;
  }

  get counters(): Readonly<SegmentCounters> {
    return this.#port.segment.counters;
  }

  get listens(): boolean {
    return this.#onFrame !== undefined;
  }

  receive(frame: Uint8Array): void {
    this.#onFrame?.(frame);
  }

  attach({ mac, onFrame }: PortOptions): Port {
    if (this.#onFrame) throw new FarbusError(`${this.claim.name}: it has its place on ${this.name} already`);
    if (mac && macKey(mac) !== macKey(this.#port.mac))
      throw new FarbusError(`${this.claim.name}: the address is the adapter's`);
    this.#onFrame = onFrame;
    let open = true;
    return {
      mac: this.#port.mac,
      segment: this,
      room: () => this.#port.room(),
      send: (frame) => {
        if (!open) return false;
        this.#sending();
        return this.#port.send(frame);
      },
      close: () => {
        if (open) this.#onFrame = undefined;
        open = false;
      },
    };
  }

  close(): Promise<void> {
    this.#onFrame = undefined;
    return Promise.resolve();
  }
}
