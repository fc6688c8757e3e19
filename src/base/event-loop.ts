/** Deferring work to a later iteration of the event loop, on Node and in browsers. */
import { onAbort } from './abort.js';

type Immediate = (callback: () => void) => unknown;

const immediate = (globalThis as { setImmediate?: Immediate }).setImmediate;

/**
 * Calls `callback` in a later iteration of the event loop, as soon as possible. It runs neither
 * within the caller's stack nor as a microtask.
 */
export const nextIteration: (callback: () => void) => void = immediate
  ? (callback) => void immediate(callback)
  : (() => {
      const waiting: (() => void)[] = [];
      const channel = new MessageChannel();
      channel.port1.onmessage = () => waiting.shift()?.();
      return (callback: () => void) => {
        waiting.push(callback);
        channel.port2.postMessage(0);
      };
    })();

/** Resolves after `ms` milliseconds, or rejects when `signal` aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const timer = setTimeout(() => {
      unwatch();
      resolve();
    }, ms);
    const unwatch = onAbort(signal, () => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    });
  });
}

/** Waits `ms` milliseconds, or until `signal` aborts; never rejects. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return sleep(ms, signal).catch(() => undefined);
}
