/**
 * Reusable memory for copies of long payloads. Fresh memory costs about as much as the copy into
 * it.
 */

/** Most memory kept for reuse, and the smallest piece, in bytes. */
const maxKept = 32 << 20;
const smallest = 1 << 16;

export class PayloadPool {
  readonly #free = new Map<number, Uint8Array[]>();
  #kept = 0;

  /** Returns at least `length` bytes, which contain old data. */
  take(length: number): Uint8Array {
    let size = smallest;
    while (size < length) size *= 2;
    const bytes = this.#free.get(size)?.pop();
    if (!bytes) return new Uint8Array(size);
    this.#kept -= size;
    return bytes;
  }

  /** Returns memory from {@link take} to the pool, once it is no longer read. */
  give(bytes: Uint8Array): void {
    const { length } = bytes;
    if (this.#kept + length > maxKept) return;
    this.#kept += length;
    const list = this.#free.get(length);
    if (list) list.push(bytes);
    else this.#free.set(length, [bytes]);
  }
}
