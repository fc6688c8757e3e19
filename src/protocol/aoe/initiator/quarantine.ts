/**
 * Prevents ghost writes on targets without Farbus sessions (docs/aoe.md, "Ghost writes").
 *
 * Such a target executes every copy of a write that reaches it. So no write may be sent for blocks
 * of which an older copy can still be in the network: a write that overlaps one in flight waits
 * for its answer; a write that overlaps one that was repeated or given up waits until no copy can
 * be in the network. That time is an assumption about the network.
 */

/** Sectors [start, end) of which copies can be in the network until `until` (performance.now()). */
interface Quarantined {
  readonly start: number;
  readonly end: number;
  readonly until: number;
}

/** Maximum number of entries; beyond it all are merged into one that covers them all. */
const maxEntries = 1024;

export class Quarantine {
  readonly #lifetimeMs: number;
  #entries: Quarantined[] = [];

  /** Maximum time that a frame can be in the network, in ms. */
  constructor(lifetimeMs: number) {
    this.#lifetimeMs = lifetimeMs;
  }

  /** True if no copy of a write can be in the network any more. */
  get empty(): boolean {
    const now = performance.now();
    return this.#entries.every(({ until }) => until <= now);
  }

  /** Adds a write whose last copy was sent at `sentAt` (performance.now()). */
  add(start: number, end: number, sentAt: number): void {
    const entry = { start, end, until: sentAt + this.#lifetimeMs };
    if (entry.until <= performance.now()) return;
    if (this.#entries.length >= maxEntries) {
      const all = [...this.#entries, entry];
      this.#entries = [
        {
          start: Math.min(...all.map((one) => one.start)),
          end: Math.max(...all.map((one) => one.end)),
          until: Math.max(...all.map((one) => one.until)),
        },
      ];
    } else {
      this.#entries.push(entry);
    }
  }

  /** Time until a write to these sectors may be sent, in ms; 0 if now. */
  wait(start: number, end: number): number {
    if (this.#entries.length === 0) return 0;
    const now = performance.now();
    this.#entries = this.#entries.filter((one) => one.until > now);
    let until = now;
    for (const one of this.#entries) {
      if (one.start < end && start < one.end) until = Math.max(until, one.until);
    }
    return until - now;
  }
}
