/** Finds the known word that a mistyped word most likely means, for "did you mean". */

/** Letters that may differ in a word of more than four letters, and in a shorter one. */
const mostSlips = 2;
const mostSlipsInShort = 1;

/**
 * The known word that is closest to `word`: it differs by a slip of the fingers, or `word` is the
 * beginning of that word alone. Undefined if there is none, or if `word` is itself known.
 */
export function similar(word: string, known: readonly string[]): string | undefined {
  if (known.includes(word)) return undefined;
  // A hostile text may be long, and the distance takes the product of both lengths.
  if (word.length > 100) return undefined;
  const most = word.length > 4 ? mostSlips : mostSlipsInShort;
  let best: string | undefined;
  let least = most + 1;
  for (const one of known) {
    const slips = distance(one, word);
    if (slips < least) [best, least] = [one, slips];
  }
  if (best !== undefined) return best;
  const begun = word.length < 2 ? [] : known.filter((one) => one.startsWith(word));
  return begun.length === 1 ? begun[0] : undefined;
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
