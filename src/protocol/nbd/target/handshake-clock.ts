/**
 * Limits the duration of a connection's handshake, including TLS, up to transmission.
 *
 * The client's time and the server's own time (waiting for an earlier connection of the session,
 * asking a device for its size) are counted separately. Neither starts anew, so a client gains
 * nothing by options that make the server work.
 */
export class HandshakeClock {
  readonly #failed: (reason: string) => void;
  readonly #left: { client: number; server: number };
  #turn: 'client' | 'server' = 'client';
  #since = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  /**
   * Starts counting the client's time.
   * @param clientMs the client's time in total, in ms
   * @param serverMs the server's time in total, in ms
   * @param failed called once, when either time has run out; the reason is a clause about the peer,
   *   for a log
   */
  constructor(clientMs: number, serverMs: number, failed: (reason: string) => void) {
    this.#failed = failed;
    this.#left = { client: clientMs, server: serverMs };
    this.#start();
  }

  /** Switches the count: from now on the other side is waited for. */
  turn(of: 'client' | 'server'): void {
    if (this.#stopped || of === this.#turn) return;
    clearTimeout(this.#timer);
    this.#left[this.#turn] -= performance.now() - this.#since;
    this.#turn = of;
    this.#start();
  }

  /** Stops the clock: the handshake or the connection has ended. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #start(): void {
    this.#since = performance.now();
    this.#timer = setTimeout(
      () => {
        this.#stopped = true;
        const client = this.#turn === 'client';
        this.#failed(client ? 'it did not finish the handshake in time' : 'the option that it sent took too long');
      },
      Math.max(0, this.#left[this.#turn]),
    );
  }
}
