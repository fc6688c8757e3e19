/**
 * Progress of long work on stderr: redrawn on a terminal, in one line of its width; otherwise one
 * line at the end or, if asked for, a line now and then.
 */
import { formatBytes } from '../../base/format.js';
import type { CliIo } from './io.js';
import { isSmartTerminal, symbolsOf } from './style.js';

/** Minimum interval between two redraws, in ms. */
const redrawMs = 100;
/** Interval of the lines that are asked for without a terminal, in seconds. */
export const noteSeconds = 10;
/** Cells of the progress bar. */
const barCells = 20;
/** Width of a terminal that does not tell its width, in columns. */
const usualColumns = 80;

/** The parts of a progress line. */
export interface ProgressParts {
  readonly label: string;
  readonly bar: string;
  readonly percent: string;
  /** Bytes done, and of how many. */
  readonly amount: string;
  readonly rate: string;
  /** Time left; '' if it is not known. */
  readonly left: string;
}

/**
 * The progress line for a terminal: of parts that do not fit, the least important one goes first,
 * in the order bar, amount, rate, and the end of the label.
 */
export function progressLine({ label, bar, percent, amount, rate, left }: ProgressParts, width: number): string {
  const choices = [
    [bar, [percent, amount, rate, left]],
    ['', [percent, amount, rate, left]],
    ['', [percent, rate, left]],
    ['', [percent, left === '' ? rate : left]],
  ] as const;
  const lines = choices.map(([before, parts]) => {
    const facts = parts.filter((part) => part !== '').join(', ');
    return before === '' ? facts : `${before} ${facts}`;
  });
  const fitting = lines.find((line) => 3 + label.length + line.length <= width);
  if (fitting !== undefined) return `  ${label} ${fitting}`;
  const shortest = lines.at(-1)!;
  const room = width - shortest.length - 3;
  if (room >= shortestLabel) return `  ${label.slice(0, room)} ${shortest}`;
  return (shortest.length <= width ? shortest : percent).slice(0, Math.max(0, width));
}

/** Fewer letters of a label tell nothing. Chosen, not measured. */
const shortestLabel = 4;

export class ProgressLine {
  readonly #io: CliIo;
  readonly #redraws: boolean;
  /** True if lines are written now and then, instead of one that is redrawn. */
  readonly #notes: boolean;
  #drawn = false;
  #last = 0;
  #label = '';
  #started = performance.now();
  /** Bytes done when the label was first shown; they do not count for the rate. */
  #before = 0;

  /** @param notes true if a line is to be written now and then where none is redrawn */
  constructor(io: CliIo, { notes = false } = {}) {
    this.#io = io;
    this.#redraws = isSmartTerminal(io.stderr, io.env);
    this.#notes = notes && !this.#redraws;
  }

  /** Shows that `done` of `total` bytes of `label` are done. */
  bytes(label: string, done: number, total: number): void {
    const now = performance.now();
    if (label !== this.#label) {
      this.#label = label;
      this.#started = now;
      this.#before = done;
      this.#last = this.#notes ? now : 0;
    }
    const finished = done >= total;
    if (!finished && now - this.#last < (this.#notes ? noteSeconds * 1000 : redrawMs)) return;
    this.#last = now;
    if (!this.#redraws && (finished || !this.#notes)) {
      // The result follows a note at once, so the end gets none.
      if (finished && !this.#notes) this.#io.stderr.write(`  ${label}: ${formatBytes(total)}\n`);
      return;
    }
    const seconds = Math.max(1, now - this.#started) / 1000;
    const rate = (done - this.#before) / seconds;
    const part = total > 0 ? Math.min(1, done / total) : 1;
    const { full, empty } = symbolsOf(this.#io.env);
    const filled = Math.floor(part * barCells);
    const parts = {
      label,
      bar: this.#notes ? '' : full.repeat(filled) + empty.repeat(barCells - filled),
      percent: `${Math.floor(part * 100)}%`,
      amount: `${formatBytes(done)} of ${formatBytes(total)}`,
      rate: `${formatBytes(rate)}/s`,
      // After less than a second an estimate would be meaningless.
      left: !finished && seconds > 1 && rate > 0 ? `${duration((total - done) / rate)} left` : '',
    };
    if (this.#notes) return void this.#io.stderr.write(`farbus: ${progressLine(parts, Infinity).trim()}\n`);
    this.#draw(progressLine(parts, this.#width()));
    if (finished) this.end();
  }

  /** Shows a status without a known end, and for how long. Does nothing without a terminal. */
  status(text: string, seconds: number): void {
    if (!this.#redraws) return;
    const time = `, ${duration(seconds)}`;
    this.#draw(`  ${text.slice(0, Math.max(0, this.#width() - 2 - time.length))}${time}`);
  }

  /** Erases the line if it is not finished. */
  clear(): void {
    if (this.#drawn) this.#io.stderr.write('\r\x1b[K');
    this.#drawn = false;
  }

  /** Keeps the line and starts a new one. */
  end(): void {
    if (this.#drawn) this.#io.stderr.write('\n');
    this.#drawn = false;
  }

  /**
   * Columns for the line. The width may change at any time, so ask each time. The last column stays
   * free: a terminal may begin a new line when it is filled.
   */
  #width(): number {
    return (this.#io.stderr.columns || usualColumns) - 1;
  }

  #draw(text: string): void {
    this.#io.stderr.write(`\r${text.slice(0, this.#width())}\x1b[K`);
    this.#drawn = true;
  }
}

/** Time in ms before waiting without a terminal is mentioned. */
const mentionMs = 2000;
/** Interval at which the time on a terminal is updated, in ms. */
const tickMs = 500;

/**
 * Says on stderr that `what` is being done while `work` is pending, and for how long: continuously
 * on a terminal; otherwise in one line after two seconds.
 */
export async function whileShown<T>(io: CliIo, what: string, work: Promise<T>): Promise<T> {
  const line = new ProgressLine(io);
  const started = performance.now();
  const timer = isSmartTerminal(io.stderr, io.env)
    ? setInterval(() => line.status(what, (performance.now() - started) / 1000), tickMs)
    : setTimeout(() => void io.stderr.write(`farbus: ${what}\n`), mentionMs);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    line.clear();
  }
}

/** "42 s", "3:07 min", "2:05 h". */
function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)} min`;
  return `${Math.floor(whole / 3600)}:${two((whole % 3600) / 60)} h`;
}
