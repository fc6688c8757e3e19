/** Conformance: dd over ssh, on a server of the test's own. */
import { truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe } from 'vitest';
import { openSshDd } from '../../src/protocol/dd/open.node.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempPath } from '../support/temp.js';
import { conformance } from './suite.js';

function image(size: number): string {
  const path = tempPath('disk.img');
  writeFileSync(path, '');
  truncateSync(path, size);
  return path;
}

describe.skipIf(cannotSshd() !== undefined)('ssh+dd', () => {
  beforeAll(async () => {
    process.env['FARBUS_SSH'] = (await Sshd.start()).ssh;
  });
  const disk = image(4 << 20);
  conformance('GNU dd', async () => ({ device: await openSshDd(`ssh+dd://test${disk}`) }), {
    persistent: true,
    steps: 200,
    openReadOnly: async () => ({ device: await openSshDd(`ssh+dd://test${disk}`, { readOnly: true }) }),
  });
});
