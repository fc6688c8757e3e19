/**
 * Ends a process whose event loop does not turn any more, or whose memory grows without bound: an
 * endless loop in a parser cannot be ended from within its own thread. A worker thread watches.
 * When it finds such a state, it prints where the loop is, writes the inputs that ran to a file for
 * FARBUS_FUZZ_REPLAY, prints them unless they are long, and kills the process.
 *
 * A process that gets no processor time is not stuck: the limit is in processor time, not in time
 * of the clock. Inputs whose answer never comes, although the event loop turns, are an error of the
 * test ({@link Watchdog.guard}).
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

/**
 * Processor time that the event loop may take for one turn, in ms. The slowest turns of the fuzzers
 * take about 0.3 s.
 */
const stuckCpuMs = 10_000;
/** Time of the clock for one turn, in ms: a call that sleeps takes no processor time. */
const stuckMs = 300_000;
/** Time of the clock for the inputs of one batch, in ms. The slowest take some seconds. */
const stalledMs = 300_000;
/** How often the event loop says that it turns, in ms. */
const beatMs = 100;
/** Bytes by which the process may grow while the inputs of one batch run. */
const maxGrowth = 1 << 30;
const maxText = 4 << 20;

export class Watchdog {
  readonly #counters = new Int32Array(new SharedArrayBuffer(8));
  readonly #text = new Uint8Array(new SharedArrayBuffer(maxText));
  readonly #worker: Worker;
  readonly #timer: ReturnType<typeof setInterval>;
  /** When the present inputs began, in ms of performance.now(), and their words for people. */
  #began = performance.now();
  #when = '';

  /** @param title Names the fuzzer, in the message and in the name of the file with the inputs. */
  constructor(title: string) {
    this.#worker = new Worker(new URL('./watchdog-thread.mjs', import.meta.url), {
      workerData: {
        state: this.#counters.buffer,
        text: this.#text.buffer,
        stuckCpuMs,
        stuckMs,
        maxRss: process.memoryUsage.rss() + maxGrowth,
        title,
        replayFile: join(tmpdir(), `farbus-fuzz-${title}.txt`),
      },
    });
    this.#worker.unref();
    this.#timer = setInterval(() => this.#beat(), beatMs);
    this.#timer.unref();
  }

  /** From now on these inputs run, a line each. `when` is for people. */
  running(when: string, inputs: string): void {
    this.#began = performance.now();
    this.#when = when;
    const bytes = new TextEncoder().encode(`${when}\n${inputs}`).subarray(0, maxText);
    this.#text.set(bytes);
    Atomics.store(this.#counters, 1, bytes.length);
    this.#beat();
  }

  /** Waits for `work`. Rejects if the inputs of one batch do not end. */
  async guard<T>(work: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setInterval>;
    const stalled = new Promise<never>((_, reject) => {
      timer = setInterval(() => {
        if (performance.now() - this.#began < stalledMs) return;
        reject(new Error(`${this.#when}: no end within ${stalledMs / 1000} s`));
      }, 1000);
    });
    try {
      return await Promise.race([work, stalled]);
    } finally {
      clearInterval(timer!);
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#worker.terminate();
  }

  #beat(): void {
    Atomics.add(this.#counters, 0, 1);
  }
}
