/**
 * Hints for a word at the end of a drive's text that looks like a filter but is none, and so was
 * taken for part of the path.
 */
import { FarbusError, usageError } from '../base/errors.js';

/** Words of a drive's text that are not filters; true if the word takes no value. */
const others: Readonly<Record<string, boolean>> = {
  bus: false,
  serial: false,
  model: false,
  cdrom: true,
  removable: true,
};

/**
 * A hint about the last word of `text`, if it looks like a filter; else undefined.
 * @param flags Filters by word; true if the filter takes no value.
 */
export function filterHint(text: string, flags: Readonly<Record<string, boolean>>): string | undefined {
  const match = /,([a-z-]+)(=[^,]*)?$/.exec(text);
  if (!match) return undefined;
  const word = match[1]!;
  const known = { ...flags, ...others };
  if (Object.hasOwn(known, word)) {
    return known[word] ? `,${word} takes no value` : `,${word} needs a value: ,${word}=…`;
  }
  const near = Object.keys(known).find((name) => distance(name, word) <= (word.length > 4 ? 2 : 1));
  if (near !== undefined) return `there is no filter ${word}: did you mean ${near}?`;
  return match[2] === undefined ? undefined : `there is no filter ${word}`;
}

/** Adds the hint, if there is one, to an error of opening `text`. */
export function withFilterHint(text: string, error: unknown, flags: Readonly<Record<string, boolean>>): unknown {
  const hint = error instanceof FarbusError ? filterHint(text, flags) : undefined;
  return hint === undefined ? error : usageError(`${(error as FarbusError).message}; ${hint}`);
}

/**
 * Edit distance: the number of letters to change, remove or insert, or of neighbours to swap
 * (optimal string alignment).
 */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, rows[i - 1]![j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      }
      rows[i]![j] = least;
    }
  }
  return rows[a.length]![b.length]!;
}
