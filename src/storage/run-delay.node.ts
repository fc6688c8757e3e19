/**
 * How long this thread has waited for a processor (proc(5), /proc/thread-self/schedstat). It tells
 * a call that was preempted from one that waited for a disk: for both, only the clock goes on.
 *
 * Linux only; elsewhere the answer is always 0.
 */
import fs from 'node:fs';

/** A sample is renewed after this time, in ms. It costs about 20 µs. */
const sampleMs = 10;
let sampled = 0;
let sampledAt = -Infinity;
let readable = true;

/**
 * Call it before a call that {@link preemptedMs} may be asked about.
 * @param now performance.now()
 */
export function sampleRunDelay(now: number): void {
  if (now - sampledAt < sampleMs) return;
  sampled = runDelayMs();
  sampledAt = now;
}

/** Time that the thread has waited for a processor since the last sample, in ms. */
export function preemptedMs(): number {
  return runDelayMs() - sampled;
}

function runDelayMs(): number {
  if (!readable) return 0;
  try {
    return Number(fs.readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[1]) / 1e6;
  } catch {
    readable = false;
    return 0;
  }
}
