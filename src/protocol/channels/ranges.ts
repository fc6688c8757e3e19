/**
 * A set of byte ranges of limited size. If there are too many ranges, the two closest ones are
 * merged, so the set may then cover more bytes than were added.
 */

const maxRanges = 256;

export class Ranges {
  /** In order, with gaps between them. */
  #ranges: { start: number; end: number }[] = [];

  get empty(): boolean {
    return this.#ranges.length === 0;
  }

  add(offset: number, length: number): void {
    let start = offset;
    let end = offset + length;
    const kept: { start: number; end: number }[] = [];
    for (const range of this.#ranges) {
      if (range.end < start || range.start > end) kept.push(range);
      else {
        start = Math.min(start, range.start);
        end = Math.max(end, range.end);
      }
    }
    kept.push({ start, end });
    kept.sort((a, b) => a.start - b.start);
    this.#ranges = kept.length > maxRanges ? joined(kept) : kept;
  }

  each(take: (start: number, end: number) => void): void {
    for (const { start, end } of this.#ranges) take(start, end);
  }

  overlaps(offset: number, length: number): boolean {
    return this.#ranges.some(({ start, end }) => start < offset + length && offset < end);
  }
}

/** Closes the narrowest gap. */
function joined(ranges: { start: number; end: number }[]): { start: number; end: number }[] {
  let at = 1;
  for (let i = 1; i < ranges.length; i++) {
    if (ranges[i]!.start - ranges[i - 1]!.end < ranges[at]!.start - ranges[at - 1]!.end) at = i;
  }
  const both = { start: ranges[at - 1]!.start, end: ranges[at]!.end };
  return [...ranges.slice(0, at - 1), both, ...ranges.slice(at + 1)];
}
