/**
 * Keys for a guest's keyboard. Text, key names in angle brackets and a terminal's escape sequences
 * are translated into the codes that a keyboard with US layout sends (scan code set 1, as the 8042
 * delivers it).
 *
 * Left out: other keyboard layouts.
 */

/** The codes that one keystroke sends, in order: keys are pressed, then released. */
export type Stroke = readonly number[];

/**
 * Rows of the US layout: the code of the row's first key, the characters of its keys, and those
 * with shift.
 */
const rowsOfKeys: readonly (readonly [code: number, plain: string, shifted: string])[] = [
  [0x02, '1234567890-=', '!@#$%^&*()_+'],
  [0x10, 'qwertyuiop[]', 'QWERTYUIOP{}'],
  [0x1e, "asdfghjkl;'`", 'ASDFGHJKL:"~'],
  [0x2b, '\\zxcvbnm,./', '|ZXCVBNM<>?'],
  [0x39, ' ', ''],
  [0x0f, '\t', ''],
  [0x1c, '\n', ''],
];

/** Codes of named keys. Codes of 0xe0xx are extended: the byte 0xe0 precedes them. */
const named: Readonly<Record<string, number>> = {
  esc: 0x01,
  backspace: 0x0e,
  tab: 0x0f,
  enter: 0x1c,
  space: 0x39,
  up: 0xe048,
  down: 0xe050,
  left: 0xe04b,
  right: 0xe04d,
  home: 0xe047,
  end: 0xe04f,
  pageup: 0xe049,
  pagedown: 0xe051,
  insert: 0xe052,
  delete: 0xe053,
  ...Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`f${i + 1}`, 0x3b + i])),
  f11: 0x57,
  f12: 0x58,
};
const modifiers: Readonly<Record<string, number>> = { ctrl: 0x1d, shift: 0x2a, alt: 0x38 };

/** The key names that {@link parseKeys} accepts, for messages and help. */
export const keyNames: readonly string[] = Object.keys(named);

const characters = new Map<string, Stroke>();
for (const [first, plain, shifted] of rowsOfKeys) {
  [...plain].forEach((key, i) => characters.set(key, stroke([first + i])));
  [...shifted].forEach((key, i) => characters.set(key, stroke([modifiers['shift']!, first + i])));
}

/**
 * Translates a text into keystrokes. `<enter>`, `<f10>`, `<ctrl-c>` and `<ctrl-alt-delete>` are
 * keys, and `<lt>` is the character "<".
 * @throws RangeError that names an unknown key or character
 */
export function parseKeys(text: string): Stroke[] {
  return splitKeys(text).map((key) =>
    key.length > 1 && key[0] === '<' ? namedStroke(key.slice(1, -1)) : characterStroke(key),
  );
}

/** Splits such a text into parts of one keystroke each. */
export function splitKeys(text: string): string[] {
  return [...text.matchAll(/<[a-z0-9-]+>|./gsu)].map(([key]) => key);
}

/** Escape sequences of a terminal for keys that are not characters: xterm (ECMA-48, DEC VT220). */
const sequences: Readonly<Record<string, string>> = {
  '[A': 'up',
  '[B': 'down',
  '[C': 'right',
  '[D': 'left',
  OA: 'up',
  OB: 'down',
  OC: 'right',
  OD: 'left',
  '[H': 'home',
  '[F': 'end',
  '[1~': 'home',
  '[2~': 'insert',
  '[3~': 'delete',
  '[4~': 'end',
  '[5~': 'pageup',
  '[6~': 'pagedown',
  OP: 'f1',
  OQ: 'f2',
  OR: 'f3',
  OS: 'f4',
  '[15~': 'f5',
  '[17~': 'f6',
  '[18~': 'f7',
  '[19~': 'f8',
  '[20~': 'f9',
  '[21~': 'f10',
  '[23~': 'f11',
  '[24~': 'f12',
};

/**
 * Translates the bytes that a terminal in raw mode sends. Bytes that no key stands for are ignored.
 */
export function terminalKeys(bytes: Uint8Array): Stroke[] {
  const strokes: Stroke[] = [];
  let rest = new TextDecoder().decode(bytes);
  while (rest !== '') {
    const sequence = /^\x1b((?:\[[0-9]*|O)[A-Za-z~])/.exec(rest);
    const name = sequence && sequences[sequence[1]!];
    if (sequence) {
      if (name) strokes.push(namedStroke(name));
      rest = rest.slice(sequence[0].length);
      continue;
    }
    const one = terminalKey(rest);
    if (one) strokes.push(one);
    rest = rest.slice(1);
  }
  return strokes;
}

function terminalKey(text: string): Stroke | undefined {
  const code = text.charCodeAt(0);
  if (code === 0x0d || code === 0x0a) return namedStroke('enter');
  if (code === 0x09) return namedStroke('tab');
  if (code === 0x7f || code === 0x08) return namedStroke('backspace');
  if (code === 0x1b) return namedStroke('esc');
  if (code > 0 && code < 0x1b) return namedStroke(`ctrl-${String.fromCharCode(0x60 + code)}`);
  return characters.get(text[0]!);
}

function characterStroke(character: string): Stroke {
  const found = characters.get(character === '\r' ? '\n' : character);
  if (!found) throw new RangeError(`the keyboard has no key for ${JSON.stringify(character)}`);
  return found;
}

function namedStroke(name: string): Stroke {
  if (name === 'lt') return characterStroke('<');
  const parts = name.split('-');
  const last = parts.pop()!;
  const held = parts.map((part) => modifiers[part]);
  const key = named[last] ?? (last.length === 1 ? characters.get(last)?.[0] : undefined);
  if (key === undefined || held.some((one) => one === undefined)) throw new RangeError(`there is no key <${name}>`);
  return stroke([...(held as number[]), key]);
}

/**
 * Presses the keys in order and releases them in reverse order. Bit 7 of a code marks the release.
 */
function stroke(keys: readonly number[]): Stroke {
  const down = keys.flatMap((key) => (key > 0xff ? [key >> 8, key & 0xff] : [key]));
  const up = [...keys].reverse().flatMap((key) => (key > 0xff ? [key >> 8, (key & 0xff) | 0x80] : [key | 0x80]));
  return [...down, ...up];
}
