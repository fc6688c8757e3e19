/**
 * Detects a server that has stopped answering. NBD has no ping. So after half of the permitted
 * silence a probe (a short read) is sent. It distinguishes a server that is busy with one long
 * request, such as a flush, from one that is gone.
 *
 * Time is counted in ticks of a timer of the event loop, so that a pause of our own process is not
 * blamed on the server.
 *
 * A complete reply is a sign of life, and so are enough bytes of one. A single byte now and then is
 * not: such a server makes no progress. In any case each request has a time limit (`ageFactor`).
 */

export interface WatchdogHost {
  /**
   * Time at which the oldest unanswered request was sent, in ms of `performance.now()`; undefined
   * if there is none.
   */
  oldest(): number | undefined;
  /** Number of bytes waiting to be sent. A decrease is a sign of life. */
  unsent(): number;
  /** Sends the server a request that it can answer quickly. */
  probe(): void;
  /** The connection must be dropped; `what` is the reason. */
  stalled(what: string): void;
}

/**
 * Number of ticks without a sign of life until a probe is sent, and until the server is given up.
 */
const probeTicks = 4;
const deadTicks = 8;
/** A single request may take this many times longer than the permitted silence. */
const ageFactor = 10;
/**
 * This many bytes of an unfinished reply are a sign of life. A line of 1200 bit/s delivers about as
 * many in 30 s. In bytes.
 */
const enoughBytes = 4096;

export class Watchdog {
  readonly #host: WatchdogHost;
  readonly #seconds: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #alive = false;
  /** Bytes received since the last sign of life. */
  #bytes = 0;
  #silent = 0;
  #unsent = 0;

  /** @param seconds permitted silence of the server while it owes an answer, in seconds */
  constructor(seconds: number, host: WatchdogHost) {
    this.#seconds = seconds;
    this.#host = host;
  }

  /**
   * Starts watching, unless it already does: the server now owes an answer. Watching ends by itself
   * when no answer is owed.
   */
  start(): void {
    this.answered();
    if (this.#timer === undefined) this.#arm();
  }

  /** Bytes have arrived from the server. */
  heard(count: number): void {
    this.#bytes += count;
    if (this.#bytes >= enoughBytes) this.answered();
  }

  /** A reply is complete. */
  answered(): void {
    this.#alive = true;
    this.#bytes = 0;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    this.#timer = setTimeout(() => this.#tick(), (this.#seconds / deadTicks) * 1000);
  }

  #tick(): void {
    this.#timer = undefined;
    const oldest = this.#host.oldest();
    if (oldest === undefined) {
      this.#silent = 0;
      return;
    }
    const unsent = this.#host.unsent();
    this.#silent = this.#alive || unsent < this.#unsent ? 0 : this.#silent + 1;
    this.#alive = false;
    this.#unsent = unsent;
    const age = this.#seconds * ageFactor;
    if (this.#silent >= deadTicks)
      return this.#host.stalled(`the server has not answered for ${this.#seconds} seconds`);
    if (performance.now() - oldest > age * 1000) {
      return this.#host.stalled(`the server has left a request without an answer for ${age} seconds`);
    }
    this.#arm();
    if (this.#silent === probeTicks) this.#host.probe();
  }
}
