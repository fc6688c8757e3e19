/** Waiting for the event loop and for conditions. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves in the next iteration of the event loop, after its I/O. */
export function nextIteration(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Resolves when the condition holds. Fails if it does not hold within 30 s. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; !(await condition()); await sleep(2)) {
    if (Date.now() > end) throw new Error('the condition does not come true');
  }
}
