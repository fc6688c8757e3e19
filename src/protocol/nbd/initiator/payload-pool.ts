/** Memory for copies of long payloads, used again: fresh memory costs about as much as the copy into it. */

/** Bytes kept for later, at most. */
const maxKept = 32 << 20;
const smallest = 1 << 16;

export class PayloadPool {
  readonly #free = new Map<number, Uint8Array[]>();
  #kept = 0;

  /** At least `length` bytes of any content. */
  take(length: number): Uint8Array {
    let size = smallest;
    while (size < length) size *= 2;
    const bytes = this.#free.get(size)?.pop();
    if (!bytes) return new Uint8Array(size);
    this.#kept -= size;
    return bytes;
  }

  /** Takes back what {@link take} gave, when nobody reads it any more. */
  give(bytes: Uint8Array): void {
    const { length } = bytes;
    if (this.#kept + length > maxKept) return;
    this.#kept += length;
    const list = this.#free.get(length);
    if (list) list.push(bytes);
    else this.#free.set(length, [bytes]);
  }
}
