/**
 * The characters and colours of text for people: plain ASCII unless the locale has UTF-8, and
 * colours only where they carry meaning, on a terminal, and without NO_COLOR (no-color.org).
 */

interface Symbols {
  readonly step: string;
  readonly done: string;
  /** A cell of a progress bar that is done, and one that is not. */
  readonly full: string;
  readonly empty: string;
}

const unicode: Symbols = { step: '•', done: '✓', full: '█', empty: '░' };
const ascii: Symbols = { step: '*', done: 'ok:', full: '#', empty: '.' };

/**
 * True if the locale's characters are those of UTF-8. POSIX defines the order of the variables, and
 * that without them the locale is C, which has only ASCII.
 */
export function hasUnicode(env: NodeJS.ProcessEnv): boolean {
  if (process.platform === 'win32') return true;
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || 'C';
  return /utf-?8/i.test(locale);
}

export function symbolsOf(env: NodeJS.ProcessEnv): Symbols {
  return hasUnicode(env) ? unicode : ascii;
}

/** True if the terminal understands the sequences that move the cursor and set colours. */
export function isSmartTerminal(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && env['TERM'] !== 'dumb';
}

/** Colours of ECMA-48, by their meaning. */
const colours = { error: 31, warning: 33, done: 32 } as const;

/** The text in the colour of its meaning, if `stream` is to have colours. */
export function coloured(
  meaning: keyof typeof colours,
  text: string,
  stream: { readonly isTTY?: boolean },
  env: NodeJS.ProcessEnv,
): string {
  if (env['NO_COLOR'] || !isSmartTerminal(stream, env)) return text;
  return `\x1b[${colours[meaning]}m${text}\x1b[39m`;
}

/** ASCII characters for the signs of code page 437. */
const likeness: Readonly<Record<string, string>> = {
  '|': '│║↕↨▌▐⌠⌡',
  '-': '─═▬↔¬⌐',
  '+': '┤╡╢╖╕╣╗╝╜╛┐└┴┬├┼╞╟╚╔╩╦╠╬╧╨╤╥╙╘╒╓╫╪┘┌±',
  '#': '░▒▓█▄▀■◘◙',
  '*': '•○☺☻♥♦♣♠☼·∙°',
  '>': '►→»≥',
  '<': '◄←«≤',
  '^': '↑▲',
  v: '↓▼',
};
const plain = new Map(Object.entries(likeness).flatMap(([one, signs]) => [...signs].map((sign) => [sign, one])));

/** The ASCII character that looks most like this one; "?" if none does. */
export function asciiOf(character: string): string {
  // An accented letter is decomposed into the letter and its accent.
  const one = plain.get(character) ?? character.normalize('NFD')[0]!;
  return one >= ' ' && one <= '~' ? one : '?';
}
