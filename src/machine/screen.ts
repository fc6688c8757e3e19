/**
 * The content of a guest's screen, as text or pixels, for systems without a serial console.
 *
 * Source: the text and graphics modes of the IBM VGA as the engine decodes them. The adapter's own
 * font has the characters of code page 437.
 *
 * Left out: blinking, and a mouse pointer.
 */

/** The screen in text mode. */
export interface TextPicture {
  readonly kind: 'text';
  readonly columns: number;
  readonly rows: number;
  /** For each position, row by row: the character (code page 437) and its colours as 0xRRGGBB. */
  readonly characters: Uint8Array;
  readonly foreground: Uint32Array;
  readonly background: Uint32Array;
  /** Undefined if the cursor is switched off or outside the screen. */
  readonly cursor: { readonly row: number; readonly column: number } | undefined;
  /**
   * The font that the guest has loaded: 32 bytes a character, of which the first `height` are lines
   * of 8 pixels. Undefined if there is none.
   */
  readonly font: { readonly height: number; readonly glyphs: Uint8Array } | undefined;
}

/** The screen in graphics mode. */
export interface PixelPicture {
  readonly kind: 'pixels';
  readonly width: number;
  readonly height: number;
  /** Red, green and blue of each pixel, row by row. */
  readonly rgb: Uint8Array;
}

/** The content of a guest's screen: text or pixels. */
export type Picture = TextPicture | PixelPicture;

/** A guest's screen, with the keyboard that belongs to it. */
export interface Screen {
  /** A copy of the present content. */
  look(): Picture;
  /** Sends codes of scan code set 1 from the keyboard. */
  sendKeys(codes: readonly number[]): void;
  /** Moves the mouse and sets its buttons; undefined if the board has no mouse. */
  readonly sendMouse?: ((move: MouseMove) => void) | undefined;
}

/**
 * A movement of the mouse and of its wheel, in whole steps of its own, and the buttons that are
 * held then.
 */
export interface MouseMove {
  /** To the right. */
  readonly x: number;
  /** Down. */
  readonly y: number;
  /** Notches of the wheel, towards the user. Default: 0. */
  readonly wheel?: number | undefined;
  /** Bit 0: left, bit 1: right, bit 2: middle, as MouseEvent.buttons. */
  readonly buttons: number;
}

const controls = ' ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼';
const upper =
  '⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ';
const ascii = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join('');
/** Code page 437 as 256 Unicode characters. */
export const codePage437: readonly string[] = [...controls, ...ascii, ...upper];

/** The lines of a text screen without trailing blanks; empty for a screen in graphics mode. */
export function textOf(picture: Picture): string[] {
  if (picture.kind !== 'text') return [];
  const { columns, rows, characters } = picture;
  return Array.from({ length: rows }, (_, row) =>
    Array.from(characters.subarray(row * columns, (row + 1) * columns), (code) => codePage437[code]!)
      .join('')
      .trimEnd(),
  );
}

/** The pixels of a screen. A text screen is drawn with the guest's own font. */
export function pixelsOf(picture: Picture): PixelPicture {
  return picture.kind === 'pixels' ? picture : draw(picture);
}

function draw(picture: TextPicture): PixelPicture {
  const { columns, rows, characters, foreground, background, font, cursor } = picture;
  const glyphHeight = font?.height ?? 16;
  const width = columns * 8;
  const height = rows * glyphHeight;
  const rgb = new Uint8Array(3 * width * height);
  for (let place = 0; place < columns * rows; place++) {
    const row = Math.floor(place / columns);
    const column = place % columns;
    const here = cursor?.row === row && cursor.column === column;
    for (let line = 0; line < glyphHeight; line++) {
      const inCursor = here && line >= glyphHeight - 2;
      const bits = inCursor ? 0xff : (font?.glyphs[characters[place]! * 32 + line] ?? 0);
      for (let x = 0; x < 8; x++) {
        const color = bits & (0x80 >> x) ? foreground[place]! : background[place]!;
        const at = 3 * ((row * glyphHeight + line) * width + column * 8 + x);
        rgb[at] = color >> 16;
        rgb[at + 1] = color >> 8;
        rgb[at + 2] = color;
      }
    }
  }
  return { kind: 'pixels', width, height, rgb };
}
