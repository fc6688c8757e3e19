/** `farbus serve` as a process, by its unix socket, plain and with TLS. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { serveProcess } from './subjects/process.js';

test('a process of farbus serve survives its clients', { timeout: patience }, async () => {
  const inputs = inputsWanted(1_000, 100_000);
  expect((await fuzz(serveProcess, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
