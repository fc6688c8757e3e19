/**
 * SIGINT, SIGTERM and SIGHUP end a command in good order; a second one ends it at once. A command that does not come to its end
 * by itself, because a peer or a device keeps it waiting, is ended after a bound.
 */

/** Exit status of a command that SIGTERM ended before it was done: 128 and the signal's number, as shells have it. */
const terminated = 143;
/** Default of the time that a command has to end in good order after the first signal, in ms. */
const defaultEndMs = 20_000;

/** A signal ended a command before it had a result. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  /** Exit status of the command. */
  readonly status: number;

  constructor(status: number) {
    super('ended by a signal');
    this.status = status;
  }
}

export interface Signals {
  /**
   * Resolves with exit status 0 for SIGTERM (asked to end, and ended), 130 for SIGINT, and 129 for SIGHUP, which a terminal
   * that is closed sends.
   */
  readonly received: Promise<number>;
  /**
   * Waits for work that may be left as it is, such as opening a source. Rejects with {@link Interrupted} at the first
   * signal.
   * @param discard Is given the result of work that ends after that.
   */
  during<T>(work: Promise<T>, discard?: (late: T) => unknown): Promise<T>;
  /** Stops to listen: a signal then ends the process. */
  stop(): void;
}

/**
 * Listens from now on.
 * @param options.hangUp False for a command that takes SIGHUP itself.
 * @param options.endMs How long the command has to end after the first signal, in ms; the process is ended then.
 */
export function onSignals({ hangUp = true, endMs = defaultEndMs } = {}): Signals {
  let first: (status: number) => void = () => undefined;
  let count = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const received = new Promise<number>((resolve) => (first = resolve));
  const handle = (status: number) => () => {
    if (++count > 1) process.exit(status || terminated);
    timer = setTimeout(() => process.exit(status || terminated), endMs).unref();
    first(status);
  };
  const onTerm = handle(0);
  const onInt = handle(130);
  const onHangUp = handle(129);
  if (hangUp) process.on('SIGHUP', onHangUp);
  process.on('SIGTERM', onTerm);
  process.on('SIGINT', onInt);
  return {
    received,
    during: async (work, discard) => {
      const interrupted = received.then((status) => {
        if (discard) void work.then(discard).catch(() => undefined);
        throw new Interrupted(status || terminated);
      });
      return Promise.race([work, interrupted]);
    },
    stop: () => {
      clearTimeout(timer);
      process.off('SIGHUP', onHangUp);
      process.off('SIGTERM', onTerm);
      process.off('SIGINT', onInt);
    },
  };
}
