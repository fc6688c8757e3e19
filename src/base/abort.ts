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

function nothing(): void {}
