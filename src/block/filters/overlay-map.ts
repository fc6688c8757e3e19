/**
 * The overlay's map: for each cluster, where its bytes are. Two bits a cluster, in pages as they are on the store; a page
 * of nothing but base clusters takes no memory. It remembers which pages changed since they were last taken.
 */
import { clustersPerPage, mapPageSize } from './overlay-format.js';

/**
 * Where a cluster's bytes are: in the base; in the store; nowhere, it reads as zeroes; sector by sector in the store or
 * the base. Values of the format.
 */
export const inBase = 0;
export const inStore = 1;
export const isZero = 2;
export const inPart = 3;
export type ClusterState = typeof inBase | typeof inStore | typeof isZero | typeof inPart;

/** A page of the map as it was when it was taken. */
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

  /** Takes a page from the store. @returns the clusters that are {@link inPart} */
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

  /** Copies of the pages that changed since they were last taken, in order. They count as unchanged from here on. */
  takeChanged(): MapPage[] {
    const pages = [...this.#changed]
      .sort((a, b) => a - b)
      .map((index) => ({ index, bytes: this.#pages.get(index)!.slice() }));
    this.#changed.clear();
    return pages;
  }

  /** Says that taken pages did not reach the store. */
  returnChanged(pages: readonly MapPage[]): void {
    for (const { index } of pages) this.#changed.add(index);
  }
}

/** Sets the two bits of clusters [from, to) of a page; returns whether any was otherwise. */
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
