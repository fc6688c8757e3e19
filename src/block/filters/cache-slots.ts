/**
 * The slots of a cache: which block of the source each slot holds, and which slot is evicted for a
 * new block. Eviction uses the CLOCK algorithm (Corbató 1968), which approximates "least recently
 * used" with one mark for each slot. Slots in use are pinned and are not evicted.
 */
import { emptySlot } from './cache-format.js';

export class CacheSlots {
  /** The block of each slot, or {@link emptySlot}. */
  readonly table: Uint32Array;
  readonly #slotOf = new Map<number, number>();
  readonly #used: Uint8Array;
  readonly #pins: Uint16Array;
  readonly #free: number[] = [];
  #never = 0;
  #hand = 0;

  constructor(slots: number) {
    this.table = new Uint32Array(slots).fill(emptySlot);
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
  load(table: Uint32Array, blocks: number): boolean {
    const seen = new Set<number>();
    for (const block of table) {
      if (block === emptySlot) continue;
      if (block >= blocks || seen.has(block)) return false;
      seen.add(block);
    }
    this.table.set(table);
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

  /** Notes that the slot now has the block's content. */
  put(slot: number, block: number): void {
    this.table[slot] = block;
    this.#slotOf.set(block, slot);
    this.#used[slot] = 1;
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
