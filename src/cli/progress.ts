/** Progress of long work on stderr: redrawn on a terminal, a line at its end elsewhere. */
import { formatBytes } from '../base/format.js';
import type { CliIo } from './io.js';

const redrawMs = 100;

export class ProgressLine {
  readonly #io: CliIo;
  readonly #tty: boolean;
  #drawn = false;
  #last = 0;
  #label = '';
  #started = performance.now();
  /** What was there already when the label was first shown: it does not count for the rate. */
  #before = 0;

  constructor(io: CliIo) {
    this.#io = io;
    this.#tty = io.stderr.isTTY === true;
  }

  /** Shows that `done` of `total` bytes of `label` are there. */
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
    // Of the first second nothing can be said yet.
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

  /** Shows what is being done, without an end in sight; nothing where stderr is no terminal. */
  status(text: string): void {
    if (this.#tty) this.#draw(`  ${text}`);
  }

  /** Removes what was drawn last and is not finished. */
  clear(): void {
    if (this.#drawn) this.#io.stderr.write('\r\x1b[K');
    this.#drawn = false;
  }

  /** Leaves what was drawn last and begins a new line. */
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

/** "42 s", "3:07 min", "2:05 h". */
function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)} min`;
  return `${Math.floor(whole / 3600)}:${two((whole % 3600) / 60)} h`;
}
