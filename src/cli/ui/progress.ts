/** Progress of long work on stderr: redrawn on a terminal; otherwise one line at the end. */
import { formatBytes } from '../../base/format.js';
import type { CliIo } from './io.js';

/** Minimum interval between two redraws, in ms. */
const redrawMs = 100;

export class ProgressLine {
  readonly #io: CliIo;
  readonly #tty: boolean;
  #drawn = false;
  #last = 0;
  #label = '';
  #started = performance.now();
  /** Bytes done when the label was first shown; they do not count for the rate. */
  #before = 0;

  constructor(io: CliIo) {
    this.#io = io;
    this.#tty = io.stderr.isTTY === true;
  }

  /** Shows that `done` of `total` bytes of `label` are done. */
  bytes(label: string, done: number, total: number): void {
    const now = performance.now();
    if (label !== this.#label) {
      this.#label = label;
      this.#started = now;
      this.#before = done;
      this.#last = 0;
    }
    const finished = done >= total;
    if (!finished && now - this.#last < redrawMs) return;
    this.#last = now;
    const seconds = Math.max(1, now - this.#started) / 1000;
    const rate = (done - this.#before) / seconds;
    // After less than a second an estimate would be meaningless.
    const left = !finished && seconds > 1 && rate > 0 ? `, ${duration((total - done) / rate)} left` : '';
    if (this.#tty) {
      const filled = total > 0 ? Math.round((done / total) * 20) : 20;
      const bar = `${'█'.repeat(filled)}${'░'.repeat(20 - filled)}`;
      this.#draw(`  ${label} ${bar} ${formatBytes(done)} of ${formatBytes(total)}, ${formatBytes(rate)}/s${left}`);
      if (finished) this.end();
    } else if (finished) {
      this.#io.stderr.write(`  ${label}: ${formatBytes(total)}\n`);
    }
  }

  /** Shows a status without a known end. Does nothing if stderr is no terminal. */
  status(text: string): void {
    if (this.#tty) this.#draw(`  ${text}`);
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

  #draw(text: string): void {
    const width = (this.#io.stderr.columns ?? 80) - 1;
    this.#io.stderr.write(`\r${text.slice(0, width)}\x1b[K`);
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
  const timer =
    io.stderr.isTTY === true
      ? setInterval(() => line.status(`${what}, ${duration((performance.now() - started) / 1000)}`), tickMs)
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
