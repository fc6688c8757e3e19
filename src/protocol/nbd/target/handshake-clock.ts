/**
 * How long a connection may be in the handshake, TLS included, from its beginning to transmission. The client's time and
 * the server's own (an earlier connection of the session ends, a device is asked for its length) are counted apart, and
 * neither begins again: a client whose options make the server work gains nothing by them.
 */
export class HandshakeClock {
  readonly #failed: (reason: string) => void;
  readonly #left: { client: number; server: number };
  #turn: 'client' | 'server' = 'client';
  #since = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  /**
   * Begins with the client's time.
   * @param clientMs The client's time in all. @param serverMs The server's.
   * @param failed Called when one of them has passed; once. The reason is what the peer did, as a log has it.
   */
  constructor(clientMs: number, serverMs: number, failed: (reason: string) => void) {
    this.#failed = failed;
    this.#left = { client: clientMs, server: serverMs };
    this.#start();
  }

  /** From now on the server works, and the client waits; or the other way round. */
  turn(of: 'client' | 'server'): void {
    if (this.#stopped || of === this.#turn) return;
    clearTimeout(this.#timer);
    this.#left[this.#turn] -= performance.now() - this.#since;
    this.#turn = of;
    this.#start();
  }

  /** The handshake is over, or the connection. */
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
        this.#failed(client ? 'it did not finish the handshake in time' : 'what it asked for took too long');
      },
      Math.max(0, this.#left[this.#turn]),
    );
  }
}
