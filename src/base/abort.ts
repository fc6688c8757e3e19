/**
 * Callbacks for the abort of a signal that many requests share, and a signal that follows several.
 *
 * A signal that a thousand requests share gets one listener, not a thousand. Node warns of more
 * than ten listeners, and searches the whole list for each one that is added.
 */

const watchers = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `callback` once when the signal aborts. Never calls it if the signal has aborted already.
 * Callbacks must not throw.
 * @returns a function that ends the watch; a second call, or a call after the abort, has no effect
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined || signal.aborted) return nothing;
  let callbacks = watchers.get(signal);
  if (callbacks === undefined) {
    const all = new Set<() => void>();
    const aborted = (): void => {
      watchers.delete(signal);
      // A callback may end the watch of another: the set then skips that one.
      for (const one of all) one();
    };
    signal.addEventListener('abort', aborted, { once: true });
    watchers.set(signal, (callbacks = all));
  }
  // A function of its own for each watch: callers may pass the same `callback` twice.
  const own = (): void => {
    stop();
    callback();
  };
  const set = callbacks;
  const stop = (): void => void set.delete(own);
  set.add(own);
  return stop;
}

/**
 * Waits for work that cannot be stopped, such as open(2) of a file whose server is silent. Rejects
 * with the signal's reason as soon as it aborts; the work then goes on by itself.
 * @param discard called with the result of work that ends later
 */
export function untilAbort<T>(
  signal: AbortSignal | undefined,
  work: Promise<T>,
  discard: (late: T) => unknown = nothing,
): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      reject(signal.reason as Error);
      void work.then(discard).catch(nothing);
    };
    if (signal.aborted) return aborted();
    const unwatch = onAbort(signal, aborted);
    work.finally(unwatch).then(resolve, reject);
  });
}

/**
 * A signal that aborts with the first of several. Call `end()` when the work is done.
 *
 * AbortSignal.any() would leak: Node 20 keeps each signal that it makes for as long as the signals
 * that it follows live, and those can live as long as a drive.
 */
export class JoinedAbort {
  readonly signal: AbortSignal;
  readonly #controller: AbortController;
  readonly #ends: readonly (() => void)[];

  constructor(...signals: readonly (AbortSignal | undefined)[]) {
    const controller = new AbortController();
    this.#controller = controller;
    this.signal = controller.signal;
    const aborted = signals.find((one) => one?.aborted);
    if (aborted) controller.abort(aborted.reason);
    this.#ends = aborted ? [] : signals.map((one) => onAbort(one, () => controller.abort(one!.reason)));
  }

  /** Aborts `signal` only, not the signals that it follows. */
  abort(reason: unknown): void {
    this.#controller.abort(reason);
  }

  /** Stops following the other signals. */
  end(): void {
    for (const end of this.#ends) end();
  }
}

function nothing(): void {}
