/**
 * The network adapter of a computer (902, 912), shared by its hypervisor and its operating system
 * under one MAC address: the NIA receive-interrupt handler 280 ([SYS] fig. 9).
 *
 * Each arriving frame comes here first. A frame that a claim assigns to the hypervisor goes to the
 * protocol that made the claim (281, 400). Every other frame goes unchanged and in order to the
 * operating system's card and raises its interrupt (289). Frames from the operating system go out
 * unchanged, except those that pose as the hypervisor's, which are dropped.
 *
 * A protocol sees its share of the adapter as a segment of its own, so targets and initiators need
 * no special code. The guest's card has its own MTU: on a segment with larger frames, only the
 * hypervisor's frames may be larger.
 *
 * Left out: MAC addresses that the guest sets on its card, and its promiscuous mode. The adapter
 * receives frames for its own address, multicast and broadcast.
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

/** Counts of frames since the adapter was created. */
export interface AdapterCounters {
  /** Delivered to the operating system's card, and sent by it. */
  toGuest: number;
  /** Frames that the operating system has sent. */
  fromGuest: number;
  /** Delivered to protocols of the hypervisor, and sent by them. */
  toHypervisor: number;
  /** Frames that protocols of the hypervisor have sent. */
  fromHypervisor: number;
  /**
   * Dropped: discovery frames of other computers, or frames for a protocol that has ended. The
   * operating system must not see either.
   */
  hidden: number;
  /** Dropped: too long for the operating system's card. */
  oversized: number;
  /**
   * Dropped: `off`, the operating system does not receive; `overflow`, it does not receive fast
   * enough.
   */
  off: number;
  /** Dropped because the operating system did not receive fast enough. */
  overflow: number;
  /** Dropped: the operating system sent a frame that only the hypervisor may send. */
  posing: number;
}

/** Options of a {@link SharedAdapter}. */
export interface SharedAdapterOptions {
  /** The computer's MAC address on the segment. */
  readonly mac: Mac;
  /** Receives the steps of each frame. */
  readonly steps?: Steps;
}

/** Largest number of frames that wait for room in the operating system's card. */
const maxWaiting = 512;

/** The network adapter of a computer, shared by its hypervisor and its operating system. */
export class SharedAdapter {
  /** The computer's MAC address. */
  readonly mac: Mac;
  /** The segment to which it is attached. */
  readonly segment: Segment;
  /** Counts since the adapter was made. */
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
  #onReceiver: (() => boolean) | undefined;
  #waiting: Uint8Array[] = [];

  constructor(segment: Segment, { mac, steps }: SharedAdapterOptions) {
    this.segment = segment;
    this.#steps = steps ?? new Steps();
    this.#port = segment.attach({ mac, onFrame: (frame) => this.#arrived(frame) });
    this.mac = this.#port.mac;
  }

  /**
   * The share of the adapter that carries the frames of `claim`. Closing the share leaves the
   * segment open.
   */
  share(claim: FrameClaim): Segment {
    const share = new Share(claim, this.#port, () => this.counters.fromHypervisor++);
    this.#shares.push(share);
    return share;
  }

  /**
   * Connects the operating system's card, which must have the adapter's MAC address. `onReceiver`
   * is called when the operating system has received its first frame ([SYS] fig. 7, step 385), and
   * then at each frame until it returns true: only some engines can look at a guest that runs.
   */
  connect(card: NetworkCard, onReceiver: (() => boolean) | undefined = undefined): void {
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
        const traceId = share.claim.tagOf(frame);
        this.#steps.step(traceId, '280', `a frame of ${frame.length} bytes has arrived`);
        this.#steps.step(traceId, '281', `it is for the ${share.claim.name}`);
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

  /** Gives a frame to the card. Returns false if the card has no room now. */
  #give(card: NetworkCard, frame: Uint8Array): boolean {
    const intake = card.receive(frame);
    if (intake === 'full') return false;
    if (intake === 'off') {
      this.counters.off++;
      return true;
    }
    this.counters.toGuest++;
    this.#tellReceiver();
    if (this.#steps.on) {
      this.#steps.step(0, '289', `a frame of ${frame.length} bytes goes to the operating system's receive handler`);
    }
    return true;
  }

  #tellReceiver(): void {
    if (this.counters.toGuest > 0 && this.#onReceiver?.()) this.#onReceiver = undefined;
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

  /** Handles a frame from the operating system. Called within a guest instruction. */
  #sent(frame: Uint8Array): void {
    if (this.#shares.some(({ claim }) => claim.poses(frame))) {
      this.counters.posing++;
      return;
    }
    this.counters.fromGuest++;
    this.#tellReceiver();
    this.#port.send(frame);
  }
}

/** A claim's share of an adapter, as a segment with one port. */
class Share implements Segment {
  readonly claim: FrameClaim;
  readonly name: string;
  readonly mtu: number;
  readonly #port: Port;
  readonly #sending: () => void;
  #onFrame: PortOptions['onFrame'] | undefined;

  /** @param sending Called for each frame that is sent. */
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
