/**
 * Keeping the event loop awake for a moment after something was sent, where the answer usually comes at once.
 *
 * A thread that sleeps in the kernel takes tens of microseconds to wake, on a virtual machine often hundreds: as long as a
 * request that finds its data in memory. A loop that turns instead sees the answer as it arrives. The price is processor
 * time, so it is paid only where it has paid off: each stream watches how long its answers take, and keeps vigil only
 * while that is typically below its limit. An idle connection costs nothing.
 */

/** Turns until this time, in ms of performance.now(). */
let until = 0;
let turning = false;
/** Vigils whose answer is outstanding since the loop began to turn; the loop rests when there is none. */
let awaited = 0;
/** Counts the times that the loop has come to rest: a vigil of an earlier time is over. */
let period = 0;

function turn(): void {
  if (awaited > 0 && performance.now() < until) {
    setImmediate(turn);
  } else {
    turning = false;
    awaited = 0;
    period++;
  }
}

/** Weight of the latest time in what counts as typical. */
const weight = 1 / 8;
/** A vigil is this much longer than the typical time, so that a late answer is still met. */
const patience = 2;

/** The expectation of one stream. */
export class Vigil {
  readonly #limit: number;
  #typical = 0;
  /** When it was sent that for which no answer has come, in ms; 0 where none is expected. */
  #since = 0;
  #period = -1;

  /** @param limit longest wait that is worth a processor, in ms */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How long an answer is worth waiting for awake, as far as is known now, in ms; 0: not at all. */
  get patience(): number {
    if (this.#typical > this.#limit) return 0;
    return Math.min(this.#limit, this.#typical * patience + this.#limit / 4);
  }

  /**
   * Something was sent to which an answer is expected.
   * @param awake Whether the loop is to be kept awake for it; otherwise somebody else waits.
   */
  sent(awake = true): void {
    // Only the first of several under way is timed: with more, the loop is awake anyway.
    if (this.#since !== 0) return;
    this.#since = performance.now();
    if (!awake || this.patience === 0) return;
    until = Math.max(until, this.#since + this.patience);
    awaited++;
    if (!turning) {
      turning = true;
      setImmediate(turn);
    }
    this.#period = period;
  }

  /** Something has arrived. */
  arrived(): void {
    if (this.#since === 0) return;
    // One long wait must not outweigh many short ones: a pause in the work is not how long answers take.
    const took = Math.min(performance.now() - this.#since, 4 * this.#limit);
    this.#typical += (took - this.#typical) * weight;
    this.#rest();
  }

  /** Nothing more will arrive. */
  end(): void {
    this.#rest();
  }

  #rest(): void {
    this.#since = 0;
    if (this.#period === period && awaited > 0) awaited--;
    this.#period = -1;
  }
}
