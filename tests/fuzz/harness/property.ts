/**
 * A property of fast-check under the watchdog of the fuzzers, with their seed and number of inputs.
 * For what is better said as structure than as bytes: a guest's commands, a plan of faults.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { seedWanted } from './loop.js';
import { Watchdog } from './watchdog.js';

/** Checks a property with so many inputs. A hang is reported with the seed and the run. */
export async function attack<T>(
  property: fc.IAsyncPropertyWithHooks<T> | fc.IPropertyWithHooks<T>,
  runs: number,
): Promise<void> {
  const title = expect.getState().currentTestName ?? 'a property';
  const seed = seedWanted();
  const watchdog = new Watchdog(title.replace(/\W+/g, '-').slice(0, 60));
  const began = performance.now();
  let run = 0;
  const next = (): void => watchdog.running(`seed ${seed}, run ${++run}`, '');
  if (property.isAsync()) property.beforeEach(next);
  else (property as fc.IPropertyWithHooks<T>).beforeEach(next);
  try {
    await watchdog.guard(Promise.resolve(fc.assert(property, { numRuns: runs, seed })));
    console.error(`${title}: ${run} inputs, ${Math.round((performance.now() - began) / 1000)} s, seed ${seed}`);
  } finally {
    await watchdog.stop();
  }
}
