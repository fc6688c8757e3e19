/**
 * Shows a guest's text screen in the user's terminal. It writes only what has changed, with
 * colours (ECMA-48; 24-bit colours as in xterm). It uses the terminal's alternate screen, so the
 * normal screen is unchanged afterwards.
 */
import { codePage437, type Picture, type TextPicture } from '../../machine/screen.js';
import { asciiOf } from './style.js';

const escape = '\x1b[';
const enter = `${escape}?1049h${escape}2J${escape}?25l`;
const leave = `${escape}0m${escape}?25h${escape}?1049l`;
/** Interval between updates, in ms. */
const lookEvery = 50;

/** Computes the text that a terminal must receive to show a sequence of pictures. */
export class ScreenPainter {
  readonly #characters: readonly string[];
  #before: TextPicture | undefined;
  #pixels = '';
  /** The terminal's size at the last picture. */
  #size = '';

  /** @param unicode False: the terminal shows only ASCII. */
  constructor(unicode = true) {
    this.#characters = unicode ? codePage437 : codePage437.map(asciiOf);
  }

  /**
   * The text for the next picture; '' if nothing has changed. The terminal has `columns` and
   * `rows`.
   */
  paint(picture: Picture, columns = Infinity, rows = Infinity): string {
    if (picture.kind === 'pixels') return this.#paintPixels(`${picture.width} x ${picture.height}`);
    const before = this.#before;
    // A terminal that has another size shows other parts, or has moved them.
    const size = `${columns} x ${rows}`;
    const same = size === this.#size && before?.columns === picture.columns && before.rows === picture.rows;
    this.#size = size;
    let out = same ? '' : `${escape}0m${escape}2J`;
    let color = '';
    for (let row = 0; row < Math.min(picture.rows, rows); row++) {
      let at = -1;
      for (let column = 0; column < Math.min(picture.columns, columns); column++) {
        const place = row * picture.columns + column;
        if (same && equalAt(before, picture, place)) continue;
        if (at !== column) out += `${escape}${row + 1};${column + 1}H`;
        const wanted = colorOf(picture, place);
        if (wanted !== color) out += wanted;
        color = wanted;
        out += this.#characters[picture.characters[place]!]!;
        at = column + 1;
      }
    }
    const { cursor } = picture;
    const moved = before?.cursor?.row !== cursor?.row || before?.cursor?.column !== cursor?.column;
    if (out !== '' || moved || this.#pixels !== '') {
      out += cursor ? `${escape}${cursor.row + 1};${cursor.column + 1}H${escape}?25h` : `${escape}?25l`;
    }
    this.#before = picture;
    this.#pixels = '';
    return out;
  }

  #paintPixels(size: string): string {
    if (this.#pixels === size) return '';
    this.#pixels = size;
    this.#before = undefined;
    return `${escape}0m${escape}2J${escape}1;1HThe guest shows pixels (${size}): farbus screenshot saves them.${escape}?25l`;
  }
}

function equalAt(a: TextPicture, b: TextPicture, place: number): boolean {
  return (
    a.characters[place] === b.characters[place] &&
    a.foreground[place] === b.foreground[place] &&
    a.background[place] === b.background[place]
  );
}

function colorOf({ foreground, background }: TextPicture, place: number): string {
  const parts = (color: number) => `${color >> 16};${(color >> 8) & 0xff};${color & 0xff}`;
  return `${escape}38;2;${parts(foreground[place]!)};48;2;${parts(background[place]!)}m`;
}

/** The parts of a terminal that are used here. */
interface Terminal {
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Shows a screen on a terminal. Returns a function that stops and restores the terminal. */
export function showScreen(look: () => Picture, terminal: Terminal, unicode: boolean): () => void {
  const painter = new ScreenPainter(unicode);
  const paint = (): void => {
    const text = painter.paint(look(), terminal.columns, terminal.rows);
    if (text !== '') terminal.write(text);
  };
  terminal.write(enter);
  paint();
  const timer = setInterval(paint, lookEvery);
  let shown = true;
  return () => {
    if (!shown) return;
    shown = false;
    clearInterval(timer);
    terminal.write(leave);
  };
}
