/** Finds whether a guest's screen has changed, so that a page gets only pictures that differ. */
import type { Picture } from '../machine/screen.js';

export class PictureChanges {
  #last: Picture | undefined;

  /** True unless the picture equals the one of the last call that returned true. */
  isNew(picture: Picture): boolean {
    if (this.#last && same(this.#last, picture)) return false;
    // A copy, because the memory of the picture may be moved to the page.
    this.#last = structuredClone(picture);
    return true;
  }
}

function same(a: Picture, b: Picture): boolean {
  if (a.kind === 'pixels' || b.kind === 'pixels') {
    return a.kind === 'pixels' && b.kind === 'pixels' && a.width === b.width && equal(a.rgb, b.rgb);
  }
  return (
    a.columns === b.columns &&
    a.cursor?.row === b.cursor?.row &&
    a.cursor?.column === b.cursor?.column &&
    equal(a.characters, b.characters) &&
    equal(a.foreground, b.foreground) &&
    equal(a.background, b.background) &&
    a.font?.height === b.font?.height &&
    (a.font === undefined || equal(a.font.glyphs, b.font!.glyphs))
  );
}

function equal(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
