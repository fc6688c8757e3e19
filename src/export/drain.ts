/**
 * The end of a server: its adapters end their connections and requests, and then its devices close.
 */
import { sleep } from '../base/event-loop.js';
import type { Logger } from '../base/log.js';
import type { Exports } from './exports.js';

/** Serves exports by a protocol: to the connections of a server, or on a segment. */
export interface Adapter {
  /** Accepts nothing new, and resolves when no request is in flight. */
  close(): Promise<void>;
  /** Gives up the requests that are still in flight. */
  destroy?(): void;
}

/** Default time for requests in flight to end, in ms. */
const defaultDrainMs = 10_000;
/** Time for devices to finish requests that were given up, in ms. */
const settleMs = 3_000;

/**
 * Ends a server: waits until no adapter has requests in flight, at most `drainMs` ms, and closes
 * the devices.
 */
export async function drain(
  exports: Exports,
  adapters: readonly Adapter[],
  log: Logger,
  drainMs = defaultDrainMs,
): Promise<void> {
  await within(drainMs, Promise.all(adapters.map((one) => one.close())));
  for (const one of adapters) one.destroy?.();
  // A device closes when none of its requests is in flight. One that hangs must not keep the
  // process.
  const inTime = await within(settleMs, exports.close());
  if (!inTime) log.log('warn', 'a device does not finish its requests: left as it is');
}

/**
 * Waits for `work`, at most `ms` ms. Resolves with true if it was done in time; rejects like
 * `work`.
 */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const enough = new AbortController();
  const late = sleep(ms, enough.signal).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    enough.abort();
  }
}
