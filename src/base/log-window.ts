/**
 * Bounds the lines that repeated events write to a log. Of the lines of one key, a window of time
 * passes on the first at once, and at its end the last, with the number of those before it that
 * were left out. So the log has the state in which the events left each thing. Keys beyond a
 * maximum are only counted.
 *
 * Not here: lines of which the later ones may be dropped without a word (ThrottledLogger in
 * log.ts).
 */
import type { Logger, LogLevel } from './log.js';

/** Length of a window, in ms. */
const windowMs = 10_000;
/** Most keys of a window. */
const mostKeys = 32;

interface Repeated {
  readonly level: LogLevel;
  readonly message: string;
  /** Number of lines after the first. */
  readonly more: number;
}

export class WindowedLogger {
  readonly #to: Logger;
  readonly #about: string;
  readonly #lines = new Map<string, Repeated>();
  /** Number of lines whose keys were too many. */
  #others = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param about the subject of all lines, for the line that counts those left out */
  constructor(to: Logger, about: string) {
    this.#to = to;
    this.#about = about;
  }

  log(level: LogLevel, key: string, message: string): void {
    if (!this.#timer) {
      this.#timer = setTimeout(() => this.flush(), windowMs);
      (this.#timer as { unref?: () => void }).unref?.();
    }
    const line = this.#lines.get(key);
    if (line) {
      // Last in the map, so that the lines at the end are in the order of their events.
      this.#lines.delete(key);
      this.#lines.set(key, { level, message, more: line.more + 1 });
    } else if (this.#lines.size < mostKeys) {
      this.#lines.set(key, { level, message, more: 0 });
      this.#to.log(level, message);
    } else {
      this.#others++;
    }
  }

  /** Ends the window now. Call it before the log is closed. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { level, message, more } of this.#lines.values()) {
      if (more > 0) this.#to.log(level, more === 1 ? message : `${message} (and ${more - 1} more like this before)`);
    }
    if (this.#others > 0) this.#to.log('warn', `${this.#others} more lines about ${this.#about} were left out`);
    this.#lines.clear();
    this.#others = 0;
  }
}
