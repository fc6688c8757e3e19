/**
 * The version of a far disk's content, by which a cache is known to be right: a mark that the
 * disk's server gives, and that differs after every change of the content
 * ({@link BlockDevice.contentVersion}).
 */

/**
 * For this time after the server has confirmed the mark, the cache is used without asking, in ms.
 */
const believedMs = 1000;
/** Longest mark, in characters. */
const longestMark = 100;

/** Asks for the present mark. Undefined: the server cannot confirm the content now. */
export type AskVersion = () => Promise<string | undefined>;

/** The version with which a cache began, and the question if it is still the present one. */
export class CacheVersion {
  /** The mark with which the cache began. */
  readonly mark: string;
  readonly #ask: AskVersion;
  #changed = false;
  /** The last answer, and when it was asked for. */
  #answer: { readonly same: boolean; readonly asked: Moment };
  #asking: Promise<boolean> | undefined;

  private constructor(mark: string, ask: AskVersion, asked: Moment) {
    this.mark = mark;
    this.#ask = ask;
    this.#answer = { same: true, asked };
  }

  /** Asks for the first mark. Undefined if there is none: then nothing may be cached. */
  static async open(ask: AskVersion): Promise<CacheVersion | undefined> {
    const asked = new Moment();
    const mark = await validMark(ask);
    return mark === undefined ? undefined : new CacheVersion(mark, ask, asked);
  }

  /** True once the server has given another mark. */
  get changed(): boolean {
    return this.#changed;
  }

  /**
   * True if the content was unchanged up to a second ago. False: it has changed, or cannot be
   * confirmed now.
   */
  recently(): boolean | Promise<boolean> {
    if (this.#changed) return false;
    const { same, asked } = this.#answer;
    if (asked.isRecent) return same;
    return (this.#asking ??= this.now().finally(() => (this.#asking = undefined)));
  }

  /** Asks. True if the content is unchanged now. */
  async now(): Promise<boolean> {
    const asked = new Moment();
    const mark = await validMark(this.#ask);
    if (mark !== undefined && mark !== this.mark) this.#changed = true;
    const same = mark === this.mark && !this.#changed;
    this.#answer = { same, asked };
    return same;
  }
}

async function validMark(ask: AskVersion): Promise<string | undefined> {
  try {
    const mark = await ask();
    return mark !== undefined && /^[!-~]+$/.test(mark) && mark.length <= longestMark ? mark : undefined;
  } catch {
    // The server is away. The device itself waits for it, or fails.
    return undefined;
  }
}

/** A moment on two clocks: one of them stops while a computer sleeps, the other can be set. */
class Moment {
  readonly #steady = performance.now();
  readonly #wall = Date.now();

  get isRecent(): boolean {
    const wall = Math.abs(Date.now() - this.#wall);
    return performance.now() - this.#steady < believedMs && wall < believedMs;
  }
}
