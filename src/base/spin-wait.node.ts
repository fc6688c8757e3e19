/**
 * Spin wait: keeps the event loop from sleeping for a moment after a request was sent, if the
 * answer usually comes quickly.
 *
 * A thread that sleeps in the kernel takes tens of microseconds to wake, on a virtual machine often
 * hundreds. That is as long as a request for data in memory takes. An event loop that spins sees
 * the answer as soon as it arrives. Spinning costs processor time, so each stream measures how long
 * its answers take and spins only while the typical time is below a limit. An idle connection costs
 * nothing. Figures: docs/notes/sockets.md, "Spin wait".
 *
 * All streams share one spinning loop; {@link SpinWait} is the spin wait of one stream.
 */

/**
 * False if FARBUS_NO_EAGER turns off all that trades simplicity or processor time for speed: every
 * spin wait, the wrapper around sockets (network/eager), and the HTTP client in
 * storage/http/direct. Asked when a stream begins.
 */
export function isEager(): boolean {
  return !process.env['FARBUS_NO_EAGER'];
}

/** The event loop spins until this time, in ms of performance.now(). */
let until = 0;
let spinning = false;
/** Spin waits without an answer since the loop began to spin. At 0 the loop stops spinning. */
let awaited = 0;
/** Number of times the loop has stopped spinning. `awaited` counts waits of this period only. */
let period = 0;

/**
 * After a longer iteration of the event loop the thread may have been preempted, in ms. Chosen, not
 * measured.
 */
const lateMs = 0.3;
/** After a preemption the loop does not spin for this time, in ms. Chosen, not measured. */
const restMs = 20;

/**
 * Detects that other threads want the processor. The scheduler preempts a thread that spins, which
 * then resumes late; it wakes a thread that sleeps in time. So after a preemption the loop does not
 * spin for `restMs`.
 */
export class Contention {
  readonly #losses: () => number;
  #known = 0;
  #iteratedAt = 0;
  #until = 0;

  /** @param losses returns how often the process has been preempted */
  constructor(losses: () => number) {
    this.#losses = losses;
  }

  /** The loop begins to spin. `now` in ms of performance.now(), as everywhere here. */
  begin(now: number): void {
    this.#iteratedAt = now;
  }

  /** One iteration of the spinning loop is over. */
  iterated(now: number): void {
    if (now - this.#iteratedAt > lateMs) {
      const losses = this.#losses();
      if (losses !== this.#known) this.#until = now + restMs;
      this.#known = losses;
    }
    this.#iteratedAt = now;
  }

  /** True while the loop must not spin. */
  rests(now: number): boolean {
    return now < this.#until;
  }
}

const contention = new Contention(() => process.resourceUsage().involuntaryContextSwitches);

function spin(): void {
  const now = performance.now();
  contention.iterated(now);
  if (awaited > 0 && now < until && !contention.rests(now)) {
    setImmediate(spin);
  } else {
    spinning = false;
    awaited = 0;
    period++;
  }
}

/** Weight of the latest time in the moving average. Chosen, not measured. */
const weight = 1 / 8;
/**
 * A spin wait lasts this many typical times, so that it still meets a late answer. Chosen, not
 * measured.
 */
const surplus = 2;

/**
 * The spin wait of one stream: measures how long answers take, and spins while that is worth it.
 */
export class SpinWait {
  readonly #limit: number;
  #typical = 0;
  /** When the oldest request without an answer was sent, in ms; 0 if no answer is expected. */
  #since = 0;
  #period = -1;

  /** @param limit longest wait that is worth spinning, in ms */
  constructor(limit: number) {
    this.#limit = isEager() ? limit : 0;
  }

  /** How long to spin for an answer now, in ms; 0: not at all. */
  #patience(now: number): number {
    if (this.#typical > this.#limit || contention.rests(now)) return 0;
    return Math.min(this.#limit, this.#typical * surplus + this.#limit / 4);
  }

  /** A request, or an answer that the peer may follow with its next request, was sent. */
  sent(): void {
    // Only the first of several in flight is timed: with more, the loop is busy anyway.
    if (this.#since !== 0) return;
    this.#since = performance.now();
    const patience = this.#patience(this.#since);
    if (patience === 0) return;
    until = Math.max(until, this.#since + patience);
    awaited++;
    if (!spinning) {
      spinning = true;
      contention.begin(this.#since);
      setImmediate(spin);
    }
    this.#period = period;
  }

  /** Data has arrived. */
  arrived(): void {
    if (this.#since === 0) return;
    // Cap the time: one pause in the work must not outweigh many quick answers.
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
