/**
 * Shadow doorbells (NVMe 1.4 §5.7 Doorbell Buffer Config, §7.13): the driver leaves the values of
 * its doorbells in guest memory, and writes the register only if the value passes the EventIdx that
 * the controller left beside it.
 *
 * The guest may change both buffers at any time, and may run while this code does. So each value is
 * read once, as a whole, and the caller checks it.
 *
 * Left out: the admin queue (§7.13 has the driver write its registers in any case).
 */
import type { GuestMemory } from '../../machine/guest-memory.js';

/** Size of each buffer in bytes: one memory page. */
export const shadowSize = 4096;

/** Guest-physical addresses of the two buffers, as a snapshot holds them. */
export interface ShadowState {
  readonly doorbells: number;
  readonly events: number;
}

export class ShadowDoorbells {
  readonly state: ShadowState;
  readonly #memory: GuestMemory;

  constructor(memory: GuestMemory, state: ShadowState) {
    this.#memory = memory;
    this.state = state;
  }

  /** True if both buffers are in guest memory. */
  get placed(): boolean {
    return this.#words(this.state.doorbells) !== undefined && this.#words(this.state.events) !== undefined;
  }

  /**
   * The value of a doorbell, which is numbered as the registers are; undefined if the buffer is not
   * in guest memory.
   */
  load(index: number): number | undefined {
    const words = this.#words(this.state.doorbells);
    return words && Atomics.load(words, index) >>> 0;
  }

  /** Sets the value of a doorbell to that of its register. */
  store(index: number, value: number): void {
    this.#put(this.state.doorbells, index, value);
  }

  /**
   * Makes the driver write the register when its value passes `value`. The driver may have passed
   * it already: {@link load} again afterwards. Atomics order the two accesses.
   */
  expect(index: number, value: number): void {
    this.#put(this.state.events, index, value);
  }

  #put(buffer: number, index: number, value: number): void {
    const words = this.#words(buffer);
    if (!words) return;
    Atomics.store(words, index, value);
    this.#memory.written(buffer + 4 * index, 4);
  }

  /** Numbers of 32 bits, so that no half of a value is read while the guest writes it. */
  #words(buffer: number): Int32Array | undefined {
    const bytes = this.#memory.view(buffer, shadowSize);
    return bytes && new Int32Array(bytes.buffer, bytes.byteOffset, shadowSize / 4);
  }
}
