/** Logging: a few levels, one line an entry, to wherever the composition root says. Libraries get a Logger, never a console. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** One line at a level. Messages are plain text without a trailing newline; nothing secret goes into them. */
export interface Logger {
  log(level: LogLevel, message: string): void;
}

/** A logger that drops everything. */
export const silent: Logger = { log: () => undefined };

/** A logger that lets a message of one `key` through at most once in `intervalMs`, so that a peer cannot flood a log. */
export class ThrottledLogger {
  readonly #to: Logger;
  readonly #intervalMs: number;
  readonly #last = new Map<string, number>();

  constructor(to: Logger, intervalMs = 1000) {
    this.#to = to;
    this.#intervalMs = intervalMs;
  }

  log(level: LogLevel, key: string, message: string): void {
    const now = performance.now();
    const last = this.#last.get(key);
    if (last !== undefined && now - last < this.#intervalMs) return;
    if (this.#last.size >= 256) this.#last.clear();
    this.#last.set(key, now);
    this.#to.log(level, message);
  }
}
