/**
 * NBD under mutated input, both roles, from the corpora in tests/fuzz/corpus/nbd. FARBUS_FUZZ_INPUTS sets the number of inputs
 * for each role; with FARBUS_TEST_ALL it is five million, ten million in all.
 */
import { expect, test } from 'vitest';
import { initiator } from './nbd-fuzz/initiator.js';
import { fuzz } from './nbd-fuzz/loop.js';
import { target } from './nbd-fuzz/target.js';

const usual = process.env['FARBUS_TEST_ALL'] ? 5_000_000 : 20_000;
const inputs = Number(process.env['FARBUS_FUZZ_INPUTS'] ?? usual);
const seed = Number(process.env['FARBUS_FUZZ_SEED'] ?? Date.now() % 0x7fff_ffff);
/** Far more than it takes, in ms. */
const patience = 6 * 60 * 60_000;
/** What the process may have grown by, after garbage was collected as it liked, in bytes. */
const maxGrowth = 400 << 20;

test.each([target, initiator])('the $name survives', { timeout: patience }, async (subject) => {
  const before = process.memoryUsage().rss;
  const outcome = await fuzz(subject, inputs, seed);
  console.log(
    `${subject.name}: ${outcome.inputs} inputs, ${Math.round(outcome.inputs / outcome.seconds)} a second, ` +
      `${outcome.behaviours} behaviours, seed ${seed}`,
  );
  expect(outcome.inputs).toBeGreaterThanOrEqual(inputs);
  expect(process.memoryUsage().rss - before).toBeLessThan(maxGrowth);
});
