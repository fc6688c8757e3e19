/** Disks on servers whose answers are edited on their way: NBD, dd and SFTP with filters. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { farDisk } from './subjects/far.js';

test('far disks with filters survive their servers', { timeout: patience }, async () => {
  const inputs = inputsWanted(1_000, 100_000);
  expect((await fuzz(farDisk, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
