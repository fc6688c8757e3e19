import { openFile } from '../../src/storage/file.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { hasKoffi } from '../support/koffi.js';
import { tempImage } from '../support/temp.js';
import { conformance } from './suite.js';

const disk = tempImage(4 << 20);
const facets = hasKoffi ? (['direct', 'files'] as const) : [];

conformance('file', async () => ({ device: await openPath(disk) }), {
  facets,
  persistent: true,
  openReadOnly: async () => ({ device: await openPath(disk, { readOnly: true }) }),
});

const plain = tempImage(4 << 20);
conformance('file without koffi', async () => ({ device: await openPath(plain, { native: false }) }), {
  persistent: true,
});

const odd = tempImage(1_000_001);
conformance('file of odd length, blocks of one byte', async () => ({ device: await openPath(odd) }), {
  facets,
  persistent: true,
});

const large = tempImage(40 << 20);
conformance('file, blocks of 4096', async () => ({ device: await openFile(large, { blockSize: 4096 }) }), {
  facets,
});
