/** Locks on ranges of numbers: of two that overlap, the one that was asked for first goes first, the other waits for it. */

interface Held {
  readonly start: number;
  readonly end: number;
  readonly followers: (() => void)[];
}

export class RangeLock {
  /** In force or waiting. */
  readonly #held = new Set<Held>();

  /** Whether a part of [start, end) is in force or waited for. */
  overlaps(start: number, end: number): boolean {
    for (const other of this.#held) if (other.start < end && start < other.end) return true;
    return false;
  }

  /** Waits until [start, end) is free; gives what frees it again. */
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
