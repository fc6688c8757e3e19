/** AoE targets of `farbus serve` on a segment with hostile stations. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { segment } from './subjects/segment.js';

test('AoE targets still answer after any frames', { timeout: patience }, async () => {
  const inputs = inputsWanted(5_000, 1_000_000);
  expect((await fuzz(segment, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
