/**
 * Ghost writes of targets that have no sessions of ours. Such a target executes every copy of a write that reaches it, so
 * nothing may be written over blocks of which a copy can still be on its way: writes that overlap one under way wait for
 * its answer; those that overlap one that was sent more than once, or given up, wait until no copy can be in the network
 * any more. That time is an assumption about the network; docs/aoe.md says what follows from it.
 */

/** Sectors [start, end) of which copies can be on their way until `until`. */
interface Haunted {
  readonly start: number;
  readonly end: number;
  readonly until: number;
}

/** More at a time are joined into one that covers them all. */
const maxHaunted = 1024;

export class Quarantine {
  readonly #lifetimeMs: number;
  #haunted: Haunted[] = [];

  /** @param lifetimeMs How long a frame can be on its way at most. */
  constructor(lifetimeMs: number) {
    this.#lifetimeMs = lifetimeMs;
  }

  /** The last copy of a write was sent at `sentAt` (performance.now()). */
  add(start: number, end: number, sentAt: number): void {
    const entry = { start, end, until: sentAt + this.#lifetimeMs };
    if (entry.until <= performance.now()) return;
    if (this.#haunted.length >= maxHaunted) {
      const all = [...this.#haunted, entry];
      this.#haunted = [
        {
          start: Math.min(...all.map((one) => one.start)),
          end: Math.max(...all.map((one) => one.end)),
          until: Math.max(...all.map((one) => one.until)),
        },
      ];
    } else {
      this.#haunted.push(entry);
    }
  }

  /** Ms until a write to these sectors may be sent; 0: now. */
  wait(start: number, end: number): number {
    if (this.#haunted.length === 0) return 0;
    const now = performance.now();
    this.#haunted = this.#haunted.filter((one) => one.until > now);
    let until = now;
    for (const one of this.#haunted) {
      if (one.start < end && start < one.end) until = Math.max(until, one.until);
    }
    return until - now;
  }
}
