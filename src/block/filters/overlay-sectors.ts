/**
 * The overlay's sector table: for each partial cluster, which of its sectors of 512 bytes are in
 * the store; one bit for each (docs/overlay.md). A cluster becomes partial when a part of it is
 * written and the base cannot read the rest. Only partial clusters take memory.
 *
 * A set bit is never cleared, and a cluster that has been completed or zeroed never becomes partial
 * again. So after a crash an old or torn table names only sectors whose bytes are in the store.
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

  /** Index of the table's page that contains this cluster. */
  pageOf(cluster: number): number {
    return Math.floor((cluster * this.#stride) / mapPageSize);
  }

  /**
   * Loads a cluster's bits from a page of the table.
   * @returns false if no bit is set: the table is damaged
   */
  load(cluster: number, page: Uint8Array): boolean {
    const at = (cluster * this.#stride) % mapPageSize;
    const mask = page.slice(at, at + this.#stride);
    this.#masks.set(cluster, mask);
    return mask.some((byte) => byte !== 0);
  }

  has(cluster: number, sector: number): boolean {
    return ((this.#masks.get(cluster)?.[sector >>> 3] ?? 0) & (1 << (sector & 7))) !== 0;
  }

  /**
   * Notes that sectors [start, end) of a cluster are in the store.
   * @returns true if all its `count` sectors now are
   */
  add(cluster: number, start: number, end: number, count: number): boolean {
    let mask = this.#masks.get(cluster);
    if (!mask) this.#masks.set(cluster, (mask = new Uint8Array(this.#stride)));
    for (let sector = start; sector < end; sector++) mask[sector >>> 3]! |= 1 << (sector & 7);
    this.#changed.add(this.pageOf(cluster));
    for (let sector = 0; sector < count; sector++) if (!this.has(cluster, sector)) return false;
    return true;
  }

  /**
   * Copies of the pages that have changed since they were last taken. They then count as unchanged.
   */
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

  /** Marks taken pages as changed again: they did not reach the store. */
  returnChanged(pages: readonly MapPage[]): void {
    for (const { index } of pages) this.#changed.add(index);
  }
}
