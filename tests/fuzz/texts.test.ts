/** SOURCE and FILTER texts, URIs, configuration files and site files of any content. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { texts } from './subjects/texts.js';

test('texts are accepted, or refused in one line', { timeout: patience }, async () => {
  const inputs = inputsWanted(10_000, 2_000_000);
  expect((await fuzz(texts, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
