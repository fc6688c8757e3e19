/** Hostile NBD clients of servers as the command line composes them. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { serve } from './subjects/serve.js';

test('farbus serve survives its clients', { timeout: patience }, async () => {
  const inputs = inputsWanted(10_000, 4_000_000);
  expect((await fuzz(serve, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
