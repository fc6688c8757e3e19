/** Overlays, caches, disks, images, journals and snapshots with hostile content. */
import { expect, test } from 'vitest';
import { fuzz, inputsWanted, patience } from './harness/loop.js';
import { files } from './subjects/files.js';

test('files are used, or refused with a one-line error', { timeout: patience }, async () => {
  const inputs = inputsWanted(500, 50_000);
  expect((await fuzz(files, inputs)).inputs).toBeGreaterThanOrEqual(inputs);
});
