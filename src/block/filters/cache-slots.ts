/**
 * Which block of the source is in which slot of a cache, and which slot is given up for a new one: the CLOCK rule
 * (Corbató 1968), which is near to "least recently used" and costs a bit a slot. Slots in use are pinned.
 */
import { emptySlot } from './cache-format.js';

export class CacheSlots {
  /** By slot: its block, or {@link emptySlot}. */
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

  /** Blocks that it holds. */
  get held(): number {
    return this.#slotOf.size;
  }

  /** Takes over a table. @returns false where it cannot be one: nothing is taken over then. */
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

  /** The slot of a block, which counts as used and stays its own until {@link unpin}; undefined where it has none. */
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

  /** A slot for a block that has none yet, pinned; undefined where all are in use. The block is in it after {@link put}. */
  take(): number | undefined {
    const slot = this.#free.pop() ?? (this.#never < this.table.length ? this.#never++ : this.#evict());
    if (slot !== undefined) this.#pins[slot]!++;
    return slot;
  }

  /** The block's content is in the slot now. */
  put(slot: number, block: number): void {
    this.table[slot] = block;
    this.#slotOf.set(block, slot);
    this.#used[slot] = 1;
  }

  /** Gives a slot from {@link take} back that was not filled. Still to be unpinned. */
  giveBack(slot: number): void {
    this.#free.push(slot);
  }

  /** Forgets a block. It must not be pinned by anybody but the caller. */
  drop(block: number): void {
    const slot = this.#slotOf.get(block);
    if (slot === undefined) return;
    this.#slotOf.delete(block);
    this.table[slot] = emptySlot;
    this.#free.push(slot);
  }

  /** As {@link drop}, of the blocks [first, end). */
  dropRange(first: number, end: number): void {
    if (end - first <= this.#slotOf.size) for (let block = first; block < end; block++) this.drop(block);
    else for (const block of [...this.#slotOf.keys()]) if (block >= first && block < end) this.drop(block);
  }

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
