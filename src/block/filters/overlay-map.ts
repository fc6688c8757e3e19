/**
 * The overlay's map: the state of each cluster in two bits, in pages with the layout of the store.
 * A page whose clusters are all in the base takes no memory. The map remembers which pages have
 * changed since they were last taken.
 */
import { clustersPerPage, mapPageSize } from './overlay-format.js';

/**
 * The state of a cluster, with the values of the format: its bytes are in the base (`inBase`) or in
 * the store (`inStore`); it reads as zeroes (`isZero`); or each sector is in the store or in the
 * base (`inPart`).
 */
export const inBase = 0;
export const inStore = 1;
export const isZero = 2;
export const inPart = 3;
export type ClusterState = typeof inBase | typeof inStore | typeof isZero | typeof inPart;

/** A copy of a page of the map. */
export interface MapPage {
  readonly index: number;
  readonly bytes: Uint8Array;
}

export class ClusterMap {
  readonly #pages = new Map<number, Uint8Array>();
  readonly #changed = new Set<number>();

  get(cluster: number): ClusterState {
    const page = this.#pages.get(Math.floor(cluster / clustersPerPage));
    if (!page) return inBase;
    const place = cluster % clustersPerPage;
    return ((page[place >>> 2]! >>> ((place & 3) * 2)) & 3) as ClusterState;
  }

  /** Sets clusters [start, end). */
  set(start: number, end: number, state: ClusterState): void {
    for (let at = start; at < end;) {
      const index = Math.floor(at / clustersPerPage);
      const from = at - index * clustersPerPage;
      const to = Math.min(clustersPerPage, from + end - at);
      at += to - from;
      let page = this.#pages.get(index);
      if (!page) {
        if (state === inBase) continue;
        page = new Uint8Array(mapPageSize);
        this.#pages.set(index, page);
      }
      if (setRange(page, from, to, state)) this.#changed.add(index);
    }
  }

  /** The state at `cluster` and the end of the run of that state, at most `limit`. */
  run(cluster: number, limit: number): { state: ClusterState; end: number } {
    const state = this.get(cluster);
    let end = cluster + 1;
    while (end < limit) {
      const index = Math.floor(end / clustersPerPage);
      if (this.#pages.has(index)) {
        if (this.get(end) !== state) break;
        end++;
      } else {
        if (state !== inBase) break;
        end = (index + 1) * clustersPerPage;
      }
    }
    return { state, end: Math.min(end, limit) };
  }

  /** Loads a page that was read from the store. @returns its clusters that are {@link inPart} */
  load(index: number, bytes: Uint8Array): number[] {
    if (bytes.every((byte) => byte === 0)) return [];
    this.#pages.set(index, bytes.slice());
    const partial: number[] = [];
    for (const [place, byte] of bytes.entries()) {
      if ((byte & (byte >>> 1) & 0x55) === 0) continue;
      for (let i = 0; i < 4; i++) {
        if (((byte >>> (2 * i)) & 3) === inPart) partial.push(index * clustersPerPage + place * 4 + i);
      }
    }
    return partial;
  }

  /**
   * Copies of the pages that have changed since they were last taken, in order. They then count as
   * unchanged.
   */
  takeChanged(): MapPage[] {
    const pages = [...this.#changed]
      .sort((a, b) => a - b)
      .map((index) => ({ index, bytes: this.#pages.get(index)!.slice() }));
    this.#changed.clear();
    return pages;
  }

  /** Marks taken pages as changed again: they did not reach the store. */
  returnChanged(pages: readonly MapPage[]): void {
    for (const { index } of pages) this.#changed.add(index);
  }
}

/** Sets the state of clusters [from, to) of a page. Returns true if it changed any byte. */
function setRange(page: Uint8Array, from: number, to: number, state: ClusterState): boolean {
  const four = state * 0x55;
  let changed = false;
  for (let at = from; at < to;) {
    const index = at >>> 2;
    let value: number;
    if ((at & 3) === 0 && to - at >= 4) {
      value = four;
      at += 4;
    } else {
      const shift = (at & 3) * 2;
      value = (page[index]! & ~(3 << shift)) | (state << shift);
      at += 1;
    }
    if (page[index] !== value) {
      page[index] = value;
      changed = true;
    }
  }
  return changed;
}
