/** Lays out help texts in lines of at most 80 columns, the width of a terminal by default. */

/** Width of help texts, in columns. */
export const helpWidth = 80;
/** Column at which the descriptions of options begin. */
const column = 23;

/** A term and its description, such as an option or an exit status. */
export type Definition = readonly [term: string, about: string];

/** Joins words to lines of at most `width` columns; a longer word has its own line. */
export function wrapWords(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Breaks a paragraph into lines of at most `width` columns. */
export function wrapLines(text: string, width: number): string[] {
  return wrapWords(text.trim().split(/\s+/), width);
}

/** Wraps paragraphs, which empty lines separate. */
export function wrapText(text: string): string {
  const paragraphs = text.trim().split(/\n\s*\n/);
  return paragraphs.map((one) => wrapLines(one, helpWidth).join('\n')).join('\n\n');
}

/** Lists terms on the left and their descriptions on the right. A long term has its own line. */
export function definitions(rows: readonly Definition[], start = column): string {
  return rows
    .map(([term, about]) => {
      const [first, ...more] = wrapLines(about, helpWidth - start);
      const beside = term.length + 4 <= start;
      const lines = beside ? [`  ${term}`.padEnd(start) + first!] : [`  ${term}`, ' '.repeat(start) + first!];
      return [...lines, ...more.map((line) => ' '.repeat(start) + line)].join('\n');
    })
    .join('\n');
}

/**
 * Wraps a shell command: each line but the last ends with a backslash. Quoted words stay whole, and
 * what follows "&&" has a line of its own.
 */
export function wrapCommand(command: string): string {
  // An option stays with the word after it, which may be its value.
  const words = command.match(/(?:--?[a-z][\w-]*\s+(?!-))?(?:'[^']*'|[^\s'])+/g) ?? [];
  const lines: string[] = [];
  const isLong = command.length + 2 > helpWidth;
  let line = ' ';
  for (const word of words) {
    // Two columns are kept for " \".
    const isFull = line.length + 1 + word.length > helpWidth - 2;
    if (line.trim() !== '' && (isFull || (isLong && line.endsWith(' &&')))) {
      lines.push(`${line} \\`);
      line = '     ';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}
