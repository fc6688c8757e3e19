/**
 * Logging: four levels, one line per entry. The program that assembles the parts (a command) passes
 * a Logger to them; no library code writes to the console.
 */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/**
 * Receives one line at a level. Messages are plain text without a trailing newline and without
 * secrets.
 */
export interface Logger {
  /** Receives a line. Must not throw. */
  log(level: LogLevel, message: string): void;
}

/** A logger that discards every message. */
export const silent: Logger = { log: () => undefined };

/**
 * Passes on at most one message per `key` in `intervalMs` ms, so that a peer cannot flood the log.
 * The others are dropped without a word; WindowedLogger (log-window.ts) counts them.
 */
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
