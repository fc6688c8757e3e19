/** WebSockets: clients of the web server, and servers of an `nbd+ws://` source. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { web } from './subjects/web.js';

test('the web server still serves after any bytes, and a source opens or fails', { timeout: patience }, async () => {
  const inputs = inputsWanted(500, 50_000);
  expect((await fuzz(web, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
