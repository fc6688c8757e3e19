/** Tracks which bytes of a read have arrived. A correct reply contains each byte exactly once. */
import { PeerError } from './errors.js';

/**
 * Most separate runs that one read may have at a time. Limits the memory that a hostile server can
 * make us use.
 */
const maxRuns = 1024;

export class Coverage {
  /**
   * The starts and ends of the runs that have arrived, in order, with gaps between them: s0 e0 s1
   * e1 …
   */
  #bounds: number[] = [];

  /**
   * Records [start, end), with start < end.
   * @throws PeerError if part of it has arrived before
   */
  claim(start: number, end: number): void {
    const bounds = this.#bounds;
    const { length } = bounds;
    if (length === 0 || start > bounds[length - 1]!) {
      if (length >= 2 * maxRuns) throw new PeerError('a reply in too many pieces');
      bounds.push(start, end);
    } else if (start === bounds[length - 1]) {
      bounds[length - 1] = end;
    } else {
      this.#insert(start, end);
    }
  }

  /** True if all of [0, length) has arrived. */
  covers(length: number): boolean {
    return this.#bounds.length === 2 && this.#bounds[0] === 0 && this.#bounds[1] === length;
  }

  clear(): void {
    this.#bounds.length = 0;
  }

  #insert(start: number, end: number): void {
    const bounds = this.#bounds;
    // The first run that ends at or after `start`.
    let low = 0;
    let high = bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (bounds[2 * middle + 1]! < start) low = middle + 1;
      else high = middle;
    }
    let at = 2 * low;
    if (bounds[at + 1] === start) {
      at += 2;
      const next = bounds[at];
      if (next !== undefined && next < end) throw new PeerError('a reply with the same bytes twice');
      if (next === end) bounds.splice(at - 1, 2);
      else bounds[at - 1] = end;
      return;
    }
    if (bounds[at]! < end) throw new PeerError('a reply with the same bytes twice');
    if (bounds[at] === end) {
      bounds[at] = start;
      return;
    }
    if (bounds.length >= 2 * maxRuns) throw new PeerError('a reply in too many pieces');
    bounds.splice(at, 0, start, end);
  }
}
