/**
 * Exclusive locks on ranges of numbers. Of two locks that overlap, the later one waits for the
 * earlier one.
 */

/** A lock that is held or waits. */
interface Held {
  readonly start: number;
  readonly end: number;
  /** Called when it is released: later locks that overlap wait for it. */
  readonly followers: (() => void)[];
}

export class RangeLock {
  readonly #held = new Set<Held>();

  /** True if a lock that is held or waits overlaps [start, end). */
  overlaps(start: number, end: number): boolean {
    for (const other of this.#held) if (other.start < end && start < other.end) return true;
    return false;
  }

  /** Waits until [start, end) is free and locks it. Resolves with the function that releases it. */
  async acquire(start: number, end: number): Promise<() => void> {
    const mine: Held = { start, end, followers: [] };
    const before: Promise<void>[] = [];
    for (const other of this.#held) {
      if (other.start < end && start < other.end) {
        before.push(new Promise((resolve) => other.followers.push(resolve)));
      }
    }
    this.#held.add(mine);
    if (before.length > 0) await Promise.all(before);
    return () => {
      this.#held.delete(mine);
      for (const follow of mine.followers) follow();
    };
  }
}
