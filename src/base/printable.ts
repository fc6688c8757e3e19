/**
 * Makes text from peers (servers, clients, disks, child processes) safe for messages, terminals and
 * logs: removes characters that move the cursor, change colours, or reverse the writing direction.
 *
 * Used wherever such text is printed or put into an error. Not used for the console of a guest,
 * whose control characters are wanted.
 */

/**
 * Control and format characters (Unicode Cc and Cf), and the separators of lines and paragraphs.
 */
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const hiddenOrSpace = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu;
/** Longest peer's text within a message, in characters; longer ones are cut. */
const maxText = 300;

/**
 * `text` for use within a message: one line of at most `max` characters, and "..." if it was cut.
 * Each run of white space and hidden characters becomes one space.
 */
export function printable(text: string, max = maxText): string {
  // Cut first, so that a huge text costs little. Keep 4 × max: the hidden characters among them
  // vanish.
  const plain = text
    .slice(0, 4 * max)
    .replace(hiddenOrSpace, ' ')
    .trim();
  return plain.length > max || text.length > 4 * max ? `${plain.slice(0, max)}...` : plain;
}

/** `line` with each hidden character replaced by "?". The layout stays. */
export function visible(line: string): string {
  return line.replace(hidden, '?');
}

/**
 * `value` as one line of JSON. Hidden characters are escaped, because people read such lines too.
 */
export function jsonLine(value: unknown): string {
  const text = JSON.stringify(value).replace(hidden, (found) =>
    [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  );
  return `${text}\n`;
}
