/**
 * The seal of a kept cache: its table, and a header that says that the slots hold what the table
 * says. It may be written while the cache is in use, because a browser ends a tab without notice.
 *
 * While the store has a seal, no slot of the sealed table is overwritten: the seal is broken first,
 * by a header without it. Slots that were empty then may be filled. So a cache that ends at any
 * moment is either sealed and right, or starts empty. The checksums of the slots find what a power
 * failure or a bad disk has changed.
 */
import { buffersOf } from '../../base/buffers.js';
import { crc32 } from '../../base/crc32.js';
import type { BlockDevice } from '../device.js';
import { emptySlot, encodeCacheHeader, encodeCacheTable, type CacheLayout } from './cache-format.js';
import type { CacheSlots } from './cache-slots.js';

export class CacheSeal {
  readonly #store: BlockDevice;
  readonly #layout: CacheLayout;
  readonly #slots: CacheSlots;
  /** 1 for each slot of a table that the store may have under a seal. */
  readonly #guarded: Uint8Array;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param sealed the store has a seal, of the table that `slots` has loaded */
  constructor(store: BlockDevice, layout: CacheLayout, slots: CacheSlots, sealed: boolean) {
    this.#store = store;
    this.#layout = layout;
    this.#slots = slots;
    this.#guarded = new Uint8Array(layout.slots);
    if (sealed) this.#guard();
  }

  /** True if the slot must not be overwritten before {@link break}. */
  guards(slot: number): boolean {
    return this.#guarded[slot] !== 0;
  }

  /**
   * Seals the present table. All slots must have checksums.
   * @param name finds the identity of the device's content, '' if it is unknown. It is called after
   * the table was copied, so it speaks of content that was read before.
   * @returns false if the identity is unknown; the store is then as before
   */
  seal(name: () => Promise<string>): Promise<boolean> {
    return this.#inTurn(async () => {
      const table = encodeCacheTable(this.#slots.copy(), this.#layout);
      this.#guard();
      const identity = await name();
      if (identity === '') return false;
      await this.#store.write(this.#layout.tableOffset, buffersOf(table));
      await this.#store.flush();
      await this.#header(identity, crc32(table));
      return true;
    });
  }

  /** Breaks the seal, so that all slots may be overwritten. */
  break(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#guarded.includes(1)) return;
      await this.#header('', 0);
      this.#guarded.fill(0);
    });
  }

  /** Writes a header: a seal, or with '' none. */
  async #header(identity: string, tableChecksum: number): Promise<void> {
    const header = encodeCacheHeader({ layout: this.#layout, identity, closed: identity !== '', tableChecksum });
    await this.#store.write(0, buffersOf(header));
    await this.#store.flush();
  }

  #guard(): void {
    for (const [slot, block] of this.#slots.table.entries()) if (block !== emptySlot) this.#guarded[slot] = 1;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}
