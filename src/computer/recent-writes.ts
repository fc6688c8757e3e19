/**
 * Remembers where a guest has written a drive last. A journal or a log goes on from there, so that
 * the saved witness of a disk's content looks at these places first (unchanged.ts).
 */

/** Most places that are remembered. */
export const maxRecentWrites = 24;
/** Number of writes before a flush that are remembered: one is usually the commit record. */
const beforeFlush = 4;
/** A write this close behind a place continues it, in bytes. */
const near = 1 << 20;

export class RecentWrites {
  /** Ends of the writes that were made durable last, the oldest first. */
  readonly #durable: number[];
  /** Ends of the last writes since the last flush, in a ring. */
  readonly #latest: number[] = [];
  #next = 0;
  #changed = false;

  /** @param ends the places that another computer has left ({@link ends}) */
  constructor(ends: readonly number[] = []) {
    this.#durable = ends.slice(-maxRecentWrites);
  }

  /** True if the drive was written, trimmed or zeroed. */
  get changed(): boolean {
    return this.#changed;
  }

  /** A write, trim or zeroing begins. `fua`: it is durable when it ends, as commit records are. */
  write(offset: number, length: number, fua: boolean): void {
    this.#changed = true;
    if (fua) this.#add(offset + length);
    else this.#latest[this.#next++ % beforeFlush] = offset + length;
  }

  /** A flush begins. */
  flush(): void {
    for (const end of this.#latest) this.#add(end);
    this.#latest.length = 0;
    this.#next = 0;
  }

  /** Where the last writes ended, as offsets in bytes. */
  ends(): number[] {
    const all = new RecentWrites(this.#durable);
    for (const end of this.#latest) all.#add(end);
    return all.#durable;
  }

  #add(end: number): void {
    const continued = this.#durable.findIndex((place) => end >= place && end - place <= near);
    if (continued >= 0) this.#durable.splice(continued, 1);
    this.#durable.push(end);
    if (this.#durable.length > maxRecentWrites) this.#durable.shift();
  }
}
