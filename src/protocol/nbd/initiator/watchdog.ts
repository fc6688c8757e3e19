/**
 * Notices a server that has stopped answering. NBD has no ping: after half of the time without a sign of life a probe is
 * sent, which tells a server that is busy with one long request, such as a flush, from one that is gone. The time is
 * counted in ticks of the event loop's own timer, so that a process that was stopped for a while blames itself and not the
 * server.
 *
 * A sign of life is a reply that is complete, or enough bytes of one: a server that sends a byte now and then does not
 * get on. Whatever it sends, each request has a time limit (`ageFactor`).
 */

export interface WatchdogHost {
  /** When the oldest request without an answer was sent, ms of `performance.now()`; undefined where there is none. */
  oldest(): number | undefined;
  /** Bytes waiting to be sent: their becoming fewer is a sign of life. */
  unsent(): number;
  /** Ask the server something that it can answer at once. */
  probe(): void;
  /** It is to be given up; `what` says why. */
  stalled(what: string): void;
}

/** Ticks without a sign of life until a probe is sent, and until the server is given up. */
const probeTicks = 2;
const deadTicks = 4;
/** A single request may take this many times longer than the silence that is tolerated. */
const ageFactor = 10;
/** As many bytes of an unfinished reply are a sign of life: within 30 s, a line of 1200 bit/s brings them. */
const enoughBytes = 4096;

export class Watchdog {
  readonly #host: WatchdogHost;
  readonly #seconds: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #alive = false;
  /** Bytes since the last sign of life. */
  #bytes = 0;
  #silent = 0;
  #unsent = 0;

  /** @param seconds How long the server may be silent while it owes an answer. */
  constructor(seconds: number, host: WatchdogHost) {
    this.#seconds = seconds;
    this.#host = host;
  }

  /** Begins to watch, if it does not already: the server owes an answer. It ends by itself when there is none to wait for. */
  start(): void {
    this.answered();
    if (this.#timer === undefined) this.#arm();
  }

  /** Bytes have come from the server. */
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
