/**
 * An Ethernet segment within one process: each frame is delivered to the ports that it is addressed
 * to. A fault model can be applied (faults.ts).
 */
import { BaseSegment } from './base-segment.js';
import { FaultModel, type FrameFaults } from './faults.js';
import type { Port } from './segment.js';

/** Options of a {@link Hub}. */
export interface HubOptions {
  /** For messages. Default "hub". */
  readonly name?: string;
  /** Largest payload of a frame in bytes. Default 1500. */
  readonly mtu?: number;
  /** Default: no faults. */
  readonly faults?: FrameFaults;
}

/** Largest number of delayed frames. */
const maxLate = 65_536;

/** A segment within the program: every port receives the frames of the others. */
export class Hub extends BaseSegment {
  /** While true, the cable is cut: no frame is delivered, and delayed frames are lost. */
  cut = false;
  #faults: FaultModel | undefined;
  readonly #late = new Set<ReturnType<typeof setTimeout>>();

  constructor(options: HubOptions = {}) {
    super(options.name ?? 'hub', options.mtu ?? 1500);
    this.faults(options.faults);
  }

  /** Sets the faults from now on; undefined for none. */
  faults(faults: FrameFaults | undefined): void {
    this.#faults = faults && new FaultModel(faults);
  }

  protected override route(frame: Uint8Array, from: Port): boolean {
    if (this.cut) return true;
    if (!this.#faults) return this.deliverLater(frame, from);
    for (const delay of this.#faults.next()) {
      const copy = this.#faults.damage(frame);
      if (delay > 0) this.#deliverLate(copy.slice(), from, delay);
      else this.deliverLater(copy, from);
    }
    return true;
  }

  protected transmit(): boolean {
    return true;
  }

  protected release(): Promise<void> {
    for (const timer of this.#late) clearTimeout(timer);
    this.#late.clear();
    return Promise.resolve();
  }

  #deliverLate(frame: Uint8Array, from: Port, ms: number): void {
    if (this.#late.size >= maxLate) {
      this.counters.overflow++;
      return;
    }
    const timer = setTimeout(() => {
      this.#late.delete(timer);
      if (!this.cut) this.deliverLater(frame, from);
    }, ms);
    this.#late.add(timer);
  }
}
