/** A pause that a signal ends. */
import { onAbort } from '../../base/abort.js';

/** Waits `ms` ms, or until the signal aborts; never rejects. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      unwatch();
      resolve();
    };
    const timer = setTimeout(end, ms);
    const unwatch = onAbort(signal, end);
  });
}
