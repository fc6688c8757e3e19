/** Waiting that a request's signal can end, for filters that hold requests back. */
import { onAbort } from '../../base/abort.js';
import { BlockError } from '../errors.js';

/**
 * Waits for `wait`, which is given what to call when the wait is over and returns what cancels it.
 * Rejects with kind `aborted` when `signal` is aborted first.
 */
export function waitFor(signal: AbortSignal | undefined, wait: (done: () => void) => () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new BlockError('aborted', 'given up'));
    const abort = (): void => {
      cancel();
      reject(new BlockError('aborted', 'given up while it was held back'));
    };
    const unwatch = onAbort(signal, abort);
    const cancel = wait(() => {
      unwatch();
      resolve();
    });
  });
}

/** Waits `ms` milliseconds, or until `signal` is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return waitFor(signal, (done) => {
    const timer = setTimeout(done, ms);
    return () => clearTimeout(timer);
  });
}
