/**
 * Text of others (servers, clients, disks, child processes) as it may stand in a message, on a terminal or in a log: without
 * characters that move a cursor, change colours, or turn the writing direction.
 *
 * Used where such text is printed or put into an error. A guest's console is not text in this sense.
 */

/** Control and format characters (Unicode Cc and Cf), and the separators of lines and paragraphs. */
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const hiddenOrSpace = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu;
/** Longest text in a message, in characters. */
const maxText = 300;

/** A text within a message: on one line, each run of spaces and hidden characters as one space, of bounded length. */
export function printable(text: string, max = maxText): string {
  // The bound first: what follows it need not be looked at. Four times, as what is left out does not count.
  const plain = text
    .slice(0, 4 * max)
    .replace(hiddenOrSpace, ' ')
    .trim();
  return plain.length > max || text.length > 4 * max ? `${plain.slice(0, max)}…` : plain;
}

/** A line that keeps its layout: each hidden character becomes "?". */
export function visible(line: string): string {
  return line.replace(hidden, '?');
}

/** A value as one line of JSON for programs, whose hidden characters are escaped: people look at it too. */
export function jsonLine(value: unknown): string {
  const text = JSON.stringify(value).replace(hidden, (found) =>
    [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  );
  return `${text}\n`;
}
