/**
 * A guest's screen and keyboard as a script uses them: look, type, wait for text. What console.ts is for a serial console.
 */
import type { Engine } from '../machine/engine.js';
import { parseKeys, terminalKeys, type Stroke } from '../machine/keys.js';
import { textOf, type Picture } from '../machine/screen.js';
import { ConsoleTimeout } from './console.js';

/** Between two looks at the screen, in ms. */
const lookEvery = 50;
/** Between two keys, in ms: a keyboard's own buffer is short, and a boot loader reads it now and then. */
const keyEvery = 20;

export class ScreenConsole {
  readonly #engine: Engine;
  /** Keys are sent one after the other, whoever sends them. */
  #typing: Promise<void> = Promise.resolve();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** What is on the screen now. */
  look(): Picture {
    return this.#engine.screen.look();
  }

  /** Its lines, without blanks at their ends; none in a graphics mode. */
  text(): string[] {
    return textOf(this.look());
  }

  /**
   * Types a text in which `<enter>` and other names are keys (machine/keys.ts); resolves when the last one is sent.
   * @throws RangeError that names what is no key; nothing is typed then.
   */
  type(text: string): Promise<void> {
    return this.#send(parseKeys(text));
  }

  /** Types what a terminal in raw mode sends. */
  typeBytes(bytes: Uint8Array): Promise<void> {
    return this.#send(terminalKeys(bytes));
  }

  /**
   * Waits until the screen's lines, joined by line feeds, match.
   * @throws ConsoleTimeout after `timeoutMs`, with what is on the screen.
   */
  async waitFor(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const text = this.text().join('\n');
      const match = pattern.exec(text);
      if (match) return match;
      if (performance.now() > end) {
        throw new ConsoleTimeout(
          `the guest did not show ${String(pattern)} within ${timeoutMs / 1000} s: ${text.trim().slice(-800)}`,
        );
      }
      await sleep(lookEvery);
    }
  }

  #send(strokes: readonly Stroke[]): Promise<void> {
    const sent = this.#typing.then(async () => {
      for (const stroke of strokes) {
        this.#engine.sendKeys(stroke);
        await sleep(keyEvery);
      }
    });
    this.#typing = sent;
    return sent;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
