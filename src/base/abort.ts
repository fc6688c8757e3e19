/**
 * Being told of an abort, for many at once: a signal that a thousand requests share gets one listener, not a thousand.
 * Node warns of more than ten, and looks through all of them for each that is added.
 */

const watchers = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `callback` once when the signal aborts; not if that was before. Callbacks must not throw.
 * @returns what ends the watch; to call it again or after the abort does nothing.
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined || signal.aborted) return nothing;
  let callbacks = watchers.get(signal);
  if (callbacks === undefined) {
    const all = new Set<() => void>();
    const aborted = (): void => {
      watchers.delete(signal);
      // Some end others' watches.
      for (const one of all) one();
    };
    signal.addEventListener('abort', aborted, { once: true });
    watchers.set(signal, (callbacks = all));
  }
  // The same function may be given twice.
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
 * A signal that aborts with the first of several. `end()` it when the work is done. AbortSignal.any() is not it: Node 20
 * remembers each of its signals for as long as those that it follows live, and these may be a drive's.
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

  /** Aborts it without the others. */
  abort(reason: unknown): void {
    this.#controller.abort(reason);
  }

  /** Lets go of the others. The signal no longer aborts. */
  end(): void {
    for (const end of this.#ends) end();
  }
}

function nothing(): void {}
