/** The control sockets of servers and sites, and the port of metrics. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { sockets } from './subjects/sockets.js';

test('control sockets and metrics still answer after any bytes', { timeout: patience }, async () => {
  const inputs = inputsWanted(3_000, 200_000);
  expect((await fuzz(sockets, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
