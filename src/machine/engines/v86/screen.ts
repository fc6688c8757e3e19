/**
 * The screen of the v86 engine: the object that v86's video adapter draws on, in place of a
 * browser's canvas.
 *
 * v86's own screen for Node keeps only characters. This one also keeps colours, the guest's font
 * and pixels. The method names are v86's (browser/screen.js, dummy_screen.js).
 */
import type { Picture, Screen } from '../../screen.js';

/** The parts of v86's video adapter that are used here. */
export interface V86Vga {
  screen: object;
  /** Draws the pixels that have changed, by calls of `update_buffer`. */
  screen_fill_buffer(): void;
  /** Draws everything again. */
  complete_redraw(): void;
}

/** A rectangle of v86's frame buffer, and its place on the screen. */
interface Layer {
  readonly image_data: { readonly data: Uint8ClampedArray; readonly width: number };
  readonly screen_x: number;
  readonly screen_y: number;
  readonly buffer_x: number;
  readonly buffer_y: number;
  readonly buffer_width: number;
  readonly buffer_height: number;
}

/**
 * Longest movement of a packet of a PS/2 mouse, in steps: it has 9 bits. Longest movement of a
 * call: its packets fit into the controller's buffer.
 */
const mostSteps = { packet: 255, call: 4096 } as const;
/** Most notches of the wheel in a call: each is a packet. */
const mostNotches = 20;

/** A movement in packets: v86 would cut the bits of a longer one. */
function* packetsOf(x: number, y: number): Generator<readonly [right: number, down: number]> {
  let [right, down] = [whole(x, mostSteps.call), whole(y, mostSteps.call)];
  while (right !== 0 || down !== 0) {
    const packet = [whole(right, mostSteps.packet), whole(down, mostSteps.packet)] as const;
    yield packet;
    right -= packet[0];
    down -= packet[1];
  }
}

/** A whole number of at most this amount. */
function whole(value: number, most: number): number {
  return Math.max(-most, Math.min(most, Math.trunc(value) || 0));
}

/** Largest number of pixels. A guest that sets a larger mode gets no picture. */
const maxPixels = 4096 * 4096;
const glyphBytes = 32;
const fontBytes = 256 * glyphBytes;

export class V86Screen implements Screen {
  readonly FLAG_BLINKING = 1;
  readonly FLAG_FONT_PAGE_B = 2;
  readonly sendKeys: Screen['sendKeys'];
  readonly sendMouse: NonNullable<Screen['sendMouse']>;
  readonly #vga: V86Vga;
  #buttons = 0;
  #graphical = false;
  #columns = 80;
  #rows = 25;
  #characters = new Uint8Array(80 * 25);
  #foreground = new Uint32Array(80 * 25);
  #background = new Uint32Array(80 * 25);
  #cursor = { row: 0, column: 0 };
  #cursorShown = true;
  #fontHeight = 16;
  #fontPlane: Uint8Array | undefined;
  #fontPage = 0;
  #width = 0;
  #height = 0;
  #rgb = new Uint8Array(0);

  /** Replaces the screen that v86 has created. */
  constructor(vga: V86Vga, sendKeys: Screen['sendKeys'], send: (event: string, data: readonly unknown[]) => void) {
    this.sendKeys = sendKeys;
    this.sendMouse = ({ x, y, wheel = 0, buttons }) => {
      // v86 counts upwards, as a PS/2 mouse does.
      for (const [right, down] of packetsOf(x, y)) send('mouse-delta', [right, -down]);
      if (buttons !== this.#buttons) {
        this.#buttons = buttons;
        send('mouse-click', [(buttons & 1) !== 0, (buttons & 4) !== 0, (buttons & 2) !== 0]);
      }
      for (let left = whole(wheel, mostNotches); left !== 0; left -= Math.sign(left))
        send('mouse-wheel', [-Math.sign(left), 0]);
    };
    this.#vga = vga;
    vga.screen = this;
  }

  look(): Picture {
    if (this.#graphical && this.#rgb.length > 0) {
      this.#vga.screen_fill_buffer();
      return { kind: 'pixels', width: this.#width, height: this.#height, rgb: this.#rgb.slice() };
    }
    const { row, column } = this.#cursor;
    const shown = this.#cursorShown && row < this.#rows && column < this.#columns;
    return {
      kind: 'text',
      columns: this.#columns,
      rows: this.#rows,
      characters: this.#characters.slice(),
      foreground: this.#foreground.slice(),
      background: this.#background.slice(),
      cursor: shown ? { row, column } : undefined,
      font: this.#font(),
    };
  }

  put_char(row: number, column: number, code: number, _flags: number, background: number, foreground: number): void {
    if (!(row >= 0 && row < this.#rows && column >= 0 && column < this.#columns)) return;
    const place = row * this.#columns + column;
    this.#characters[place] = code;
    this.#background[place] = background & 0xffffff;
    this.#foreground[place] = foreground & 0xffffff;
  }

  set_mode(graphical: boolean): void {
    this.#graphical = graphical;
  }

  set_size_text(columns: number, rows: number): void {
    if (columns === this.#columns && rows === this.#rows) return;
    if (!(columns > 0 && rows > 0 && columns * rows < 1 << 20)) return;
    this.#columns = columns;
    this.#rows = rows;
    this.#characters = new Uint8Array(columns * rows);
    this.#foreground = new Uint32Array(columns * rows);
    this.#background = new Uint32Array(columns * rows);
  }

  set_size_graphical(width: number, height: number): void {
    const fits = width > 0 && height > 0 && width * height <= maxPixels;
    this.#width = fits ? width : 0;
    this.#height = fits ? height : 0;
    this.#rgb = new Uint8Array(3 * this.#width * this.#height);
  }

  update_cursor(row: number, column: number): void {
    this.#cursor = { row, column };
  }

  update_cursor_scanline(_start: number, _end: number, visible: boolean): void {
    this.#cursorShown = visible;
  }

  set_font_bitmap(height: number, _nine: boolean, _double: boolean, _eighth: boolean, plane: Uint8Array): void {
    this.#fontHeight = Math.min(height, glyphBytes);
    this.#fontPlane = plane;
  }

  set_font_page(page: number): void {
    this.#fontPage = page;
  }

  clear_screen(): void {
    this.#rgb.fill(0);
  }

  update_buffer(layers: readonly Layer[]): void {
    for (const layer of layers) this.#show(layer);
  }

  /**
   * The methods below serve a browser's canvas. Except for clearing the text they have nothing to
   * do here.
   */
  clear_text_state(): void {
    this.#characters.fill(0);
  }
  set_scale(): void {
    return;
  }
  pause(): void {
    return;
  }
  continue(): void {
    return;
  }
  destroy(): void {
    return;
  }

  #font(): { height: number; glyphs: Uint8Array } | undefined {
    const start = this.#fontPage * fontBytes;
    const glyphs = this.#fontPlane?.slice(start, start + fontBytes);
    return glyphs?.length === fontBytes ? { height: this.#fontHeight, glyphs } : undefined;
  }

  #show(layer: Layer): void {
    const { data, width: stride } = layer.image_data;
    const left = Math.max(0, layer.screen_x);
    const right = Math.min(this.#width, layer.screen_x + layer.buffer_width);
    const top = Math.max(0, layer.screen_y);
    const bottom = Math.min(this.#height, layer.screen_y + layer.buffer_height);
    for (let y = top; y < bottom; y++) {
      const row = (y - layer.screen_y + layer.buffer_y) * stride + layer.buffer_x - layer.screen_x;
      for (let x = left; x < right; x++) {
        const from = 4 * (row + x);
        const to = 3 * (y * this.#width + x);
        this.#rgb[to] = data[from]!;
        this.#rgb[to + 1] = data[from + 1]!;
        this.#rgb[to + 2] = data[from + 2]!;
      }
    }
  }
}

/**
 * Provides a minimal ImageData, which v86 needs for graphics modes, where the host has none (Node).
 */
export function provideImageData(): void {
  const scope = globalThis as { ImageData?: unknown };
  scope.ImageData ??= class {
    readonly data: Uint8ClampedArray;
    readonly width: number;
    readonly height: number;
    constructor(data: Uint8ClampedArray, width: number, height: number) {
      this.data = data;
      this.width = width;
      this.height = height;
    }
  };
}
