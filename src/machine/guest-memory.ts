/**
 * A guest's physical memory as devices see it (DMA).
 *
 * This is the only place that checks bounds: an address outside RAM yields undefined, never host
 * memory.
 */
import { checkRange, type Buffers, type PutPlace } from '../base/buffers.js';

/** A contiguous range of RAM. */
export interface MemoryRange {
  readonly start: number;
  readonly length: number;
}

/** Guest-physical memory. Addresses and lengths are in bytes. */
export interface GuestMemory {
  /** Size of RAM in bytes. */
  readonly size: number;
  /**
   * Where RAM is, in ascending order; the first range begins at address 0. Default: one range of
   * `size` bytes.
   */
  readonly ranges?: readonly MemoryRange[];
  /**
   * A view of [address, address + length); undefined if any of it is not RAM. It is valid until the
   * caller yields to the event loop, because the engine may move its memory whenever the guest
   * runs.
   */
  view(address: number, length: number): Uint8Array | undefined;
  /**
   * Must be called after a device has written [address, address + length): the engine then discards
   * code that it has translated from there.
   */
  written(address: number, length: number): void;
  /**
   * The address of [address, address + length) in this process, for system calls; undefined if any
   * of it is not RAM. Valid as long as a {@link view}, and as this object is reachable. Absent if
   * the engine must be told of what is written.
   */
  addressOf?: ((address: number, length: number) => number | undefined) | undefined;
}

const outside = 'a transfer left guest memory';

/** A contiguous range of guest-physical memory. */
export interface GuestRange {
  readonly address: number;
  readonly length: number;
}

/**
 * The guest-physical segments of one transfer, as {@link Buffers}. The caller must have checked
 * that all of them are RAM.
 */
export class GuestBuffers implements Buffers {
  readonly length: number;
  readonly #memory: GuestMemory;
  readonly #segments: readonly GuestRange[];

  constructor(memory: GuestMemory, segments: readonly GuestRange[]) {
    this.#memory = memory;
    this.#segments = segments;
    this.length = segments.reduce((sum, segment) => sum + segment.length, 0);
  }

  copyFrom(source: Uint8Array, at: number): void {
    let done = 0;
    this.#each(at, source.length, (view, address) => {
      view.set(source.subarray(done, done + view.length));
      done += view.length;
      this.#memory.written(address, view.length);
    });
  }

  copyTo(target: Uint8Array, at: number): void {
    let done = 0;
    this.#each(at, target.length, (view) => {
      target.set(view, done);
      done += view.length;
    });
  }

  zero(at: number, length: number): void {
    this.#each(at, length, (view, address) => {
      view.fill(0);
      this.#memory.written(address, view.length);
    });
  }

  slice(start: number, end: number): Buffers {
    checkRange(this.length, start, end - start);
    const part: GuestRange[] = [];
    let position = 0;
    for (const { address, length } of this.#segments) {
      const from = Math.max(start, position);
      const to = Math.min(end, position + length);
      if (to > from) part.push({ address: address + from - position, length: to - from });
      position += length;
    }
    return new GuestBuffers(this.#memory, part);
  }

  stable(): undefined {
    return undefined;
  }

  get places(): ((at: number, length: number, put: PutPlace) => void) | undefined {
    return this.#memory.addressOf && this.#places;
  }

  readonly #places = (at: number, length: number, put: PutPlace): void => {
    let more = true;
    this.#ranges(at, length, (address, size) => {
      if (!more) return;
      const place = this.#memory.addressOf?.(address, size);
      if (place === undefined) throw new RangeError(outside);
      more = put(place, size);
    });
  };

  /**
   * Calls `fill` with each contiguous view, in order, to write into it synchronously. Stops at the
   * first view for which `fill` returns false.
   * @returns true if all views were filled
   */
  fillNow(fill: (view: Uint8Array, at: number) => boolean): boolean {
    return this.#every((view, at, address) => {
      if (!fill(view, at)) return false;
      this.#memory.written(address, view.length);
      return true;
    });
  }

  /** Like {@link fillNow}, but `take` reads from each view. */
  takeNow(take: (view: Uint8Array, at: number) => boolean): boolean {
    return this.#every(take);
  }

  #every(visit: (view: Uint8Array, at: number, address: number) => boolean): boolean {
    let at = 0;
    for (const { address, length } of this.#segments) {
      const view = this.#memory.view(address, length);
      if (!view || !visit(view, at, address)) return false;
      at += length;
    }
    return true;
  }

  #each(at: number, length: number, visit: (view: Uint8Array, address: number) => void): void {
    this.#ranges(at, length, (address, size) => {
      const view = this.#memory.view(address, size);
      if (!view) throw new RangeError(outside);
      visit(view, address);
    });
  }

  #ranges(at: number, length: number, visit: (address: number, length: number) => void): void {
    checkRange(this.length, at, length);
    let position = 0;
    const end = at + length;
    for (const segment of this.#segments) {
      if (position >= end) return;
      const from = Math.max(at, position);
      const to = Math.min(end, position + segment.length);
      if (to > from) visit(segment.address + from - position, to - from);
      position += segment.length;
    }
  }
}

/** Joins adjacent segments, so that adjacent pages are transferred by one copy. */
export function joinRanges(segments: readonly GuestRange[]): GuestRange[] {
  const joined: GuestRange[] = [];
  for (const { address, length } of segments) {
    const last = joined[joined.length - 1];
    if (last && last.address + last.length === address) {
      joined[joined.length - 1] = { address: last.address, length: last.length + length };
    } else if (length > 0) {
      joined.push({ address, length });
    }
  }
  return joined;
}
