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

/** A turn that took longer than this may have lost the processor, in ms. */
const lateMs = 0.3;
/** How long that is remembered, in ms. */
const restMs = 20;

/**
 * Whether others want the processor. Who turns is then what has to make room, and comes back late; who sleeps is woken in
 * time. So a loop that has lost the processor while it turned sleeps for a while.
 */
export class Contention {
  readonly #losses: () => number;
  #known = 0;
  #turned = 0;
  #until = 0;

  /** @param losses how often the process has lost a processor that it wanted to keep */
  constructor(losses: () => number) {
    this.#losses = losses;
  }

  /** The loop begins to turn. */
  begin(now: number): void {
    this.#turned = now;
  }

  /** It has turned. */
  turned(now: number): void {
    if (now - this.#turned > lateMs) {
      const losses = this.#losses();
      if (losses !== this.#known) this.#until = now + restMs;
      this.#known = losses;
    }
    this.#turned = now;
  }

  /** Nothing is to be waited for awake now. */
  rests(now: number): boolean {
    return now < this.#until;
  }
}

const contention = new Contention(() => process.resourceUsage().involuntaryContextSwitches);

function turn(): void {
  const now = performance.now();
  contention.turned(now);
  if (awaited > 0 && now < until && !contention.rests(now)) {
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
const surplus = 2;

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
  patience(now: number): number {
    if (this.#typical > this.#limit || contention.rests(now)) return 0;
    return Math.min(this.#limit, this.#typical * surplus + this.#limit / 4);
  }

  /**
   * Something was sent to which an answer is expected.
   * @param awake Whether the loop is to be kept awake for it; otherwise somebody else waits.
   */
  sent(awake = true): void {
    // Only the first of several under way is timed: with more, the loop is awake anyway.
    if (this.#since !== 0) return;
    this.#since = performance.now();
    const patience = awake ? this.patience(this.#since) : 0;
    if (patience === 0) return;
    until = Math.max(until, this.#since + patience);
    awaited++;
    if (!turning) {
      turning = true;
      contention.begin(this.#since);
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
