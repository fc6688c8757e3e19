/**
 * A guest's screen and keyboard for scripts: look, type, wait for text. The counterpart for a
 * serial console is console.ts.
 */
import { sleep } from '../base/event-loop.js';
import { parseKeys, terminalKeys, type Stroke } from '../machine/keys.js';
import { textOf, type MouseMove, type Picture, type Screen } from '../machine/screen.js';
import { ConsoleTimeout } from './console.js';

/** Interval in ms at which the screen is checked. */
const lookEvery = 50;
/**
 * Interval in ms between keystrokes: a keyboard's buffer is short, and a boot loader reads it
 * rarely.
 */
const keyEvery = 20;

/** A guest's screen and keyboard for scripts. */
export class ScreenConsole {
  readonly #screen: Screen;
  /**
   * Settles after the last keystroke so far: the keys of several callers are sent one after the
   * other.
   */
  #typing: Promise<void> = Promise.resolve();

  constructor(screen: Screen) {
    this.#screen = screen;
  }

  /** The present content of the screen. */
  look(): Picture {
    return this.#screen.look();
  }

  /** The lines of the screen without trailing blanks; empty in graphics mode. */
  text(): string[] {
    return textOf(this.look());
  }

  /**
   * Types a text in which `<enter>` and other names are keys (machine/keys.ts). Resolves when the
   * last key was sent. An abort of `signal` leaves out the keys that were not sent yet.
   * @throws RangeError that names an unknown key; nothing is typed then
   */
  type(text: string, signal?: AbortSignal): Promise<void> {
    return this.#send(parseKeys(text), signal);
  }

  /** Types the bytes that a terminal in raw mode sends. */
  typeBytes(bytes: Uint8Array): Promise<void> {
    return this.#send(terminalKeys(bytes));
  }

  /** Sends codes of scan code set 1 at once, as a keyboard does. */
  sendCodes(codes: readonly number[]): void {
    this.#screen.sendKeys(codes);
  }

  /** True if the board has a mouse. */
  get hasMouse(): boolean {
    return this.#screen.sendMouse !== undefined;
  }

  /** Moves the mouse and sets its buttons. Nothing happens if the board has no mouse. */
  sendMouse(move: MouseMove): void {
    this.#screen.sendMouse?.(move);
  }

  /**
   * Waits until the screen's lines, joined by line feeds, match `pattern`.
   * @throws ConsoleTimeout after `timeoutMs`, with the content of the screen
   */
  async waitFor(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    let match: RegExpExecArray | null = null;
    await this.#until(() => (match = pattern.exec(this.text().join('\n'))) !== null, String(pattern), timeoutMs);
    return match!;
  }

  /**
   * Types a line at a prompt, waits until the screen shows it, presses Enter, and waits for the
   * next prompt. Without these waits a busy guest would lose keys.
   * @param prompt Matches the cursor's line when the guest is ready again.
   * @returns the text of the screen then
   * @throws ConsoleTimeout as {@link waitFor}
   */
  async command(line: string, prompt: RegExp, timeoutMs: number): Promise<string> {
    await this.type(line.replaceAll('<', '<lt>'));
    const tail = line.slice(-16).trimEnd();
    await this.#until(() => this.#cursorLines().endsWith(tail), `the line ${JSON.stringify(line)}`, timeoutMs);
    await this.type('<enter>');
    const ready = () => prompt.test(this.#cursorLines().split('\n').at(-1)!);
    await this.#until(ready, `the prompt ${String(prompt)}`, timeoutMs);
    return this.text().join('\n');
  }

  /** The lines down to the cursor's. */
  #cursorLines(): string {
    const picture = this.look();
    const cursor = picture.kind === 'text' ? picture.cursor : undefined;
    return textOf(picture)
      .slice(0, (cursor?.row ?? 0) + 1)
      .join('\n');
  }

  async #until(ready: () => boolean, what: string, timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!ready()) {
      if (performance.now() > end) {
        const shown = this.text().join('\n').trim().slice(-800);
        throw new ConsoleTimeout(`the guest did not show ${what} within ${timeoutMs / 1000} s: ${shown}`);
      }
      await sleep(lookEvery);
    }
  }

  #send(strokes: readonly Stroke[], signal?: AbortSignal): Promise<void> {
    const sent = this.#typing.then(async () => {
      for (const stroke of strokes) {
        signal?.throwIfAborted();
        this.#screen.sendKeys(stroke);
        await sleep(keyEvery);
      }
    });
    // A caller that fails or gives up must not make the next one fail.
    this.#typing = sent.catch(() => undefined);
    return sent;
  }
}
