import { truncateSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { openPath } from '../../src/storage/open.node.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { hasKoffi } from '../support/koffi.js';
import { tempPath } from '../support/temp.js';
import { conformance } from './suite.js';

function loop(...args: string[]): string {
  const path = tempPath('loop.img');
  writeFileSync(path, '');
  truncateSync(path, 8 << 20);
  return attachLoop(path, ...args);
}

const missing = cannotLoop();
if (missing !== undefined) {
  console.error(`SKIPPED: block devices: ${missing}`);
  test.skip(`block devices: ${missing}`, () => undefined);
} else {
  const first = loop();
  conformance('block device', async () => ({ device: await openPath(first) }), {
    persistent: true,
    facets: hasKoffi ? ['direct'] : [],
    openReadOnly: async () => ({ device: await openPath(first, { readOnly: true }) }),
  });
  const second = loop('--sector-size', '4096');
  conformance('block device of 4096-byte sectors, without koffi', async () => ({
    device: await openPath(second, { native: false }),
  }));
}
