/**
 * The slots of a cache: which block of the source each slot holds, and which slot is evicted for a
 * new block. Eviction uses the CLOCK algorithm (Corbató 1968), which approximates "least recently
 * used" with one mark for each slot. Slots in use are pinned and are not evicted.
 */
import { emptySlot, type CacheTable } from './cache-format.js';

/**
 * The state of a slot's checksum. `none`: unknown, because a part of the block was written; `own`:
 * of content that was put here since the cache was opened; `loaded`: from the store, and its
 * content has not been compared yet.
 */
const none = 0;
const own = 1;
const loaded = 2;

export class CacheSlots {
  /** The block of each slot, or {@link emptySlot}. */
  readonly table: Uint32Array;
  readonly #checksums: Uint32Array;
  readonly #checked: Uint8Array;
  readonly #slotOf = new Map<number, number>();
  readonly #used: Uint8Array;
  readonly #pins: Uint16Array;
  readonly #free: number[] = [];
  #never = 0;
  #hand = 0;

  constructor(slots: number) {
    this.table = new Uint32Array(slots).fill(emptySlot);
    this.#checksums = new Uint32Array(slots);
    this.#checked = new Uint8Array(slots);
    this.#used = new Uint8Array(slots);
    this.#pins = new Uint16Array(slots);
  }

  /** Number of blocks that are held. */
  get held(): number {
    return this.#slotOf.size;
  }

  /**
   * Loads a table that was read from the store.
   * @returns false if it is invalid; nothing is then loaded
   */
  load({ blocks: table, checksums }: CacheTable, blocks: number): boolean {
    const seen = new Set<number>();
    for (const block of table) {
      if (block === emptySlot) continue;
      if (block >= blocks || seen.has(block)) return false;
      seen.add(block);
    }
    this.table.set(table);
    this.#checksums.set(checksums);
    this.#checked.fill(loaded);
    this.#never = table.length;
    for (const [slot, block] of table.entries()) {
      if (block === emptySlot) this.#free.push(slot);
      else this.#slotOf.set(block, slot);
    }
    return true;
  }

  /**
   * Pins the slot of a block until {@link unpin} and marks it as used. Undefined if the block has
   * no slot.
   */
  pin(block: number): number | undefined {
    const slot = this.#slotOf.get(block);
    if (slot === undefined) return undefined;
    this.#used[slot] = 1;
    this.#pins[slot]!++;
    return slot;
  }

  unpin(slot: number): void {
    this.#pins[slot]!--;
  }

  /**
   * A pinned slot for a block that has none; undefined if all are pinned. The block is in it only
   * after {@link put}.
   */
  take(): number | undefined {
    const slot = this.#free.pop() ?? (this.#never < this.table.length ? this.#never++ : this.#evict());
    if (slot !== undefined) this.#pins[slot]!++;
    return slot;
  }

  /**
   * Notes that the slot now has the block's content.
   * @param checksum of the content, if the cache is kept
   */
  put(slot: number, block: number, checksum?: number): void {
    this.table[slot] = block;
    this.#slotOf.set(block, slot);
    this.#used[slot] = 1;
    this.#checked[slot] = none;
    if (checksum !== undefined) this.check(slot, checksum);
  }

  /** Notes the checksum of a slot's present content. */
  check(slot: number, checksum: number): void {
    this.#checksums[slot] = checksum;
    this.#checked[slot] = own;
  }

  /** Notes that a part of the slot's content has changed: its checksum is unknown. */
  forgetChecksum(slot: number): void {
    this.#checked[slot] = none;
  }

  /**
   * The checksum that a slot's content must have, if it comes from the store and has not been
   * compared. Otherwise undefined.
   */
  unchecked(slot: number): number | undefined {
    return this.#checked[slot] === loaded ? this.#checksums[slot] : undefined;
  }

  /** The slots with a block whose checksum is unknown. */
  withoutChecksum(): number[] {
    return [...this.#slotOf.values()].filter((slot) => this.#checked[slot] === none);
  }

  /** A copy of the present table. */
  copy(): CacheTable {
    return { blocks: this.table.slice(), checksums: this.#checksums.slice() };
  }

  /** Returns a slot from {@link take} that was not filled. The caller still has to unpin it. */
  giveBack(slot: number): void {
    this.#free.push(slot);
  }

  /** Forgets a block, which no other caller may have pinned. */
  drop(block: number): void {
    const slot = this.#slotOf.get(block);
    if (slot === undefined) return;
    this.#slotOf.delete(block);
    this.table[slot] = emptySlot;
    this.#free.push(slot);
  }

  /** Forgets the blocks [first, end), like {@link drop}. */
  dropRange(first: number, end: number): void {
    if (end - first <= this.#slotOf.size) for (let block = first; block < end; block++) this.drop(block);
    else for (const block of [...this.#slotOf.keys()]) if (block >= first && block < end) this.drop(block);
  }

  /** Evicts a block by CLOCK and returns its slot; undefined if all slots are pinned. */
  #evict(): number | undefined {
    const slots = this.table.length;
    for (let looked = 0; looked < 2 * slots; looked++) {
      const slot = this.#hand;
      this.#hand = (this.#hand + 1) % slots;
      if (this.#pins[slot]! > 0 || this.table[slot] === emptySlot) continue;
      if (this.#used[slot]) {
        this.#used[slot] = 0;
        continue;
      }
      this.#slotOf.delete(this.table[slot]!);
      this.table[slot] = emptySlot;
      return slot;
    }
    return undefined;
  }
}
