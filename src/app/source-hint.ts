/**
 * Hints for a word at the end of a source's text that looks like a filter but is none, and so was
 * taken for part of the path.
 */
import { FarbusError, usageError } from '../base/errors.js';
import { filterOptions } from './filters.js';

/** Words of a source's text that are not filters; true if the word takes no value. */
const others: Readonly<Record<string, boolean>> = {
  bus: false,
  serial: false,
  model: false,
  cdrom: true,
  removable: true,
};

/** A hint about the last word of a source's text, if it looks like a filter; else undefined. */
export function sourceHint(text: string): string | undefined {
  const match = /,([a-z-]+)(=[^,]*)?$/.exec(text);
  if (!match) return undefined;
  const word = match[1]!;
  const flags = Object.entries(filterOptions).map(([name, { value }]) => [name, value === undefined] as const);
  const known: Readonly<Record<string, boolean>> = { ...Object.fromEntries(flags), ...others };
  if (Object.hasOwn(known, word)) {
    return known[word] ? `,${word} takes no value` : `,${word} needs a value: ,${word}=…`;
  }
  const near = nearest(word, Object.keys(known));
  if (near !== undefined) return `there is no filter ${word}: did you mean ${near}?`;
  return match[2] === undefined ? undefined : `there is no filter ${word}`;
}

/** Adds the hint, if there is one, to an error of opening `text`. */
export function withSourceHint(text: string, error: unknown): unknown {
  const hint = error instanceof FarbusError ? sourceHint(text) : undefined;
  return hint === undefined ? error : usageError(`${(error as FarbusError).message}; ${hint}`);
}

/** The first name that differs from `word` by a slip of the fingers. */
function nearest(word: string, names: readonly string[]): string | undefined {
  return names.find((name) => distance(name, word) <= (word.length > 4 ? 2 : 1));
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
