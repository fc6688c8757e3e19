import { truncateSync, writeFileSync } from 'node:fs';
import { openFile } from '../../src/storage/file.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { hasKoffi } from '../support/koffi.js';
import { tempPath } from '../support/temp.js';
import { conformance } from './suite.js';

function image(size: number): string {
  const path = tempPath('disk.img');
  writeFileSync(path, '');
  truncateSync(path, size);
  return path;
}

const disk = image(4 << 20);
const facets = hasKoffi ? (['direct', 'files'] as const) : [];

conformance('file', async () => ({ device: await openPath(disk) }), {
  facets,
  persistent: true,
  openReadOnly: async () => ({ device: await openPath(disk, { readOnly: true }) }),
});

const plain = image(4 << 20);
conformance('file without koffi', async () => ({ device: await openPath(plain, { native: false }) }), {
  persistent: true,
});

const odd = image(1_000_001);
conformance('file of odd length, blocks of one byte', async () => ({ device: await openPath(odd) }), {
  facets,
  persistent: true,
});

const large = image(40 << 20);
conformance('file, blocks of 4096', async () => ({ device: await openFile(large, { blockSize: 4096 }) }), {
  facets,
});
