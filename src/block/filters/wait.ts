/** Waits that the request's signal ends, for filters that delay requests. */
import { onAbort } from '../../base/abort.js';
import { abortedError, BlockError } from '../errors.js';

/**
 * Begins a wait and resolves when it is over. Rejects with a BlockError of kind `aborted` if
 * `signal` aborts first.
 * @param wait begins the wait. It receives the function to call when the wait is over, and returns
 * a function that cancels the wait.
 */
export function waitFor(signal: AbortSignal | undefined, wait: (done: () => void) => () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(abortedError());
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
