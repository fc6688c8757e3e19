/**
 * Screens and keys without a guest: the codes of keys, the output to a terminal, and the content of
 * a picture.
 */
import { inflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { encodePng } from '../../src/app/computer/png.js';
import { ScreenPainter } from '../../src/cli/ui/screen-view.js';
import { asciiOf } from '../../src/cli/ui/style.js';
import { parseSource } from '../../src/app/source-text.js';
import { parseKeys, terminalKeys } from '../../src/machine/keys.js';
import { codePage437, pixelsOf, textOf, type TextPicture } from '../../src/machine/screen.js';

function picture(lines: readonly string[], cursor?: { row: number; column: number }): TextPicture {
  const columns = 10;
  const rows = lines.length;
  const characters = new Uint8Array(columns * rows);
  lines.forEach((line, row) => characters.set(new TextEncoder().encode(line), row * columns));
  const foreground = new Uint32Array(columns * rows).fill(0xaaaaaa);
  const glyphs = new Uint8Array(256 * 32);
  glyphs.set([0x80, 0x01], 0x41 * 32);
  const font = { height: 2, glyphs };
  return {
    ...{ kind: 'text', columns, rows, characters, foreground, background: new Uint32Array(columns * rows) },
    ...{ cursor, font },
  };
}

describe('keys', () => {
  it('go down and come up, with shift as the layout needs, extended ones with their prefix', () => {
    expect(parseKeys('a')).toEqual([[0x1e, 0x9e]]);
    expect(parseKeys('A|')).toEqual([
      [0x2a, 0x1e, 0x9e, 0xaa],
      [0x2a, 0x2b, 0xab, 0xaa],
    ]);
    expect(parseKeys('<up><lt>')).toEqual([
      [0xe0, 0x48, 0xe0, 0xc8],
      [0x2a, 0x33, 0xb3, 0xaa],
    ]);
    expect(parseKeys('<ctrl-alt-delete>')).toEqual([[0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]]);
    expect(parseKeys('<>')).toHaveLength(2);
  });

  it.each(['<nokey>', '<ctrl-nokey>', '<no-c>', 'ü', '\u0001'])('%j is not a key', (text) => {
    expect(() => parseKeys(`ab${text}`)).toThrow(RangeError);
  });

  it('of a terminal are the same ones', () => {
    const keys = (text: string) => terminalKeys(new TextEncoder().encode(text));
    expect(keys('a\r\x7f\x03')).toEqual(parseKeys('a<enter><backspace><ctrl-c>'));
    expect(keys('\x1b[A\x1bOB\x1b[5~\x1b[21~\x1b')).toEqual(parseKeys('<up><down><pageup><f10><esc>'));
    expect(keys('\x1b[99~ü\0')).toEqual([]);
  });
});

describe('a text screen', () => {
  it('is painted once, then only its differences', () => {
    const painter = new ScreenPainter();
    expect(painter.paint(picture(['AB', 'C']))).toContain('AB');
    expect(painter.paint(picture(['AB', 'C']))).toBe('');
    const out = painter.paint(picture(['AB', 'D'], { row: 1, column: 1 }));
    expect(out).toContain('\x1b[2;1H');
    expect(out).toContain('D');
    expect(out).not.toContain('A');
    expect(out.endsWith('\x1b[2;2H\x1b[?25h')).toBe(true);
  });

  it('is cut to a smaller terminal, and repainted after pixels', () => {
    const painter = new ScreenPainter();
    const out = painter.paint(picture(['ABC', 'DEF']), 2, 1);
    expect(out).toContain('AB');
    expect(out).not.toMatch(/[CDEF]$|C\x1b|D/);
    const pixels = { kind: 'pixels', width: 4, height: 2, rgb: new Uint8Array(24) } as const;
    expect(painter.paint(pixels)).toContain('4 x 2');
    expect(painter.paint(pixels)).toBe('');
    expect(painter.paint(picture(['ABC', 'DEF']))).toContain('DEF');
  });

  it('is painted anew in a terminal whose size has changed', () => {
    const painter = new ScreenPainter();
    painter.paint(picture(['ABC', 'DEF']), 2, 1);
    const out = painter.paint(picture(['ABC', 'DEF']), 3, 2);
    expect(out).toContain('ABC');
    expect(out).toContain('DEF');
    expect(painter.paint(picture(['ABC', 'DEF']), 3, 2)).toBe('');
  });

  it('is painted with ASCII characters for a terminal without Unicode', () => {
    const all = picture(new Array<string>(26).fill(''));
    all.characters.set(Array.from({ length: 256 }, (_, code) => code));
    const out = new ScreenPainter(false).paint(all);
    expect(out).toMatch(/^[\x1b -~]*$/);
    for (const [code, shown] of [
      [0xda, '+'],
      [0xc4, '-'],
      [0xb3, '|'],
      [0x84, 'a'],
      [0xdb, '#'],
      [0xe4, '?'],
    ] as const) {
      expect(asciiOf(codePage437[code]!)).toBe(shown);
    }
  });

  it('is text, and a PNG in the font of the guest', () => {
    const one = picture(['A ', '']);
    expect(textOf(one)).toEqual(['A', '']);
    const drawn = pixelsOf(one);
    expect([drawn.width, drawn.height]).toEqual([80, 4]);
    const lit = Array.from({ length: 320 }, (_, i) => i).filter((i) => drawn.rgb[3 * i] === 0xaa);
    expect(lit).toEqual([0, 80 + 7]);
    const png = Buffer.from(encodePng(drawn));
    const at = png.indexOf('IDAT');
    const lines = inflateSync(png.subarray(at + 4, at + 4 + png.readUInt32BE(at - 4)));
    expect(lines.length).toBe(4 * (1 + 3 * 80));
    expect(lines.subarray(1, 4)).toEqual(Buffer.from([0xaa, 0xaa, 0xaa]));
  });
});

describe("a drive's identity", () => {
  it('is taken from the text of a drive', () => {
    expect(parseSource('disk.img,serial=DESK-1,model=Desk disk,bus=ide')).toMatchObject({
      ...{ location: 'disk.img', serial: 'DESK-1', model: 'Desk disk', bus: 'ide' },
    });
    for (const text of [
      'disk.img,serial=',
      'disk.img,serial',
      `disk.img,serial=${'1'.repeat(21)}`,
      'disk.img,model=ü',
    ]) {
      expect(() => parseSource(text)).toThrow(/1 to 20 printable/);
    }
    expect(() => parseSource('disk.img,bus=scsi')).toThrow(/nvme, ahci or ide/);
    expect(() => parseSource('disk.iso,cdrom,bus=ide')).toThrow(/is on the bus ahci/);
  });
});
