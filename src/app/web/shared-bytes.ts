/**
 * Bytes that are costly to make: all who ask for them at the same time get the same ones, so that
 * many requests cost no more work and memory than one.
 */
export class SharedBytes {
  readonly #making = new Map<string, Promise<Uint8Array>>();
  readonly #made = new Map<string, WeakRef<Uint8Array>>();

  /** The bytes of this name, as long as an answer still uses them; else those that `make` makes. */
  get(name: string, make: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const made = this.#made.get(name)?.deref();
    if (made) return Promise.resolve(made);
    const making =
      this.#making.get(name) ??
      make()
        .then((bytes) => {
          this.#made.set(name, new WeakRef(bytes));
          return bytes;
        })
        .finally(() => this.#making.delete(name));
    this.#making.set(name, making);
    return making;
  }
}
