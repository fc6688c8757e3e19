/**
 * The overlay's sector table: of a cluster that is in the store in part, which of its sectors are there. A cluster becomes
 * such a one when a part of it is written and the base cannot read the rest. One bit a sector of 512 bytes
 * (docs/overlay.md). In memory are the clusters of that kind only.
 *
 * A bit that is set is never cleared, and a cluster that was once completed or zeroed is never partial again. So an older
 * or torn table after a crash names only sectors whose bytes are in the store.
 */
import { mapPageSize, sectorSize, type OverlayLayout } from './overlay-format.js';
import type { MapPage } from './overlay-map.js';

export class SectorTable {
  readonly #layout: OverlayLayout;
  /** Bytes of the table for each cluster. */
  readonly #stride: number;
  readonly #masks = new Map<number, Uint8Array>();
  readonly #changed = new Set<number>();

  constructor(layout: OverlayLayout) {
    this.#layout = layout;
    this.#stride = layout.clusterSize / sectorSize / 8;
  }

  /** The page of the table that has this cluster. */
  pageOf(cluster: number): number {
    return Math.floor((cluster * this.#stride) / mapPageSize);
  }

  /** Takes a cluster's bits from a page of the table. @returns false where there are none: the table is damaged */
  load(cluster: number, page: Uint8Array): boolean {
    const at = (cluster * this.#stride) % mapPageSize;
    const mask = page.slice(at, at + this.#stride);
    this.#masks.set(cluster, mask);
    return mask.some((byte) => byte !== 0);
  }

  has(cluster: number, sector: number): boolean {
    return ((this.#masks.get(cluster)?.[sector >>> 3] ?? 0) & (1 << (sector & 7))) !== 0;
  }

  /** Notes that sectors [start, end) of a cluster are in the store. @returns whether all of its `count` sectors are now */
  add(cluster: number, start: number, end: number, count: number): boolean {
    let mask = this.#masks.get(cluster);
    if (!mask) this.#masks.set(cluster, (mask = new Uint8Array(this.#stride)));
    for (let sector = start; sector < end; sector++) mask[sector >>> 3]! |= 1 << (sector & 7);
    this.#changed.add(this.pageOf(cluster));
    for (let sector = 0; sector < count; sector++) if (!this.has(cluster, sector)) return false;
    return true;
  }

  /** Copies of the pages that changed since they were last taken. They count as unchanged from here on. */
  takeChanged(): MapPage[] {
    const pages = [...this.#changed].map((index) => ({ index, bytes: new Uint8Array(mapPageSize) }));
    this.#changed.clear();
    for (const { index, bytes } of pages) {
      const first = (index * mapPageSize) / this.#stride;
      const end = Math.min(this.#layout.clusters, first + mapPageSize / this.#stride);
      for (let cluster = first; cluster < end; cluster++) {
        const mask = this.#masks.get(cluster);
        if (mask) bytes.set(mask, (cluster - first) * this.#stride);
      }
    }
    return pages;
  }

  /** Says that taken pages did not reach the store. */
  returnChanged(pages: readonly MapPage[]): void {
    for (const { index } of pages) this.#changed.add(index);
  }
}
