/** Conformance: SFTP over ssh, on a server of the test's own. */
import { beforeAll, describe } from 'vitest';
import { openSshSftp } from '../../src/protocol/sftp/open.node.js';
import { openSsh } from '../../src/protocol/ssh/open.node.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { cannotSshd, Sshd } from '../support/sshd.js';
import { tempImage } from '../support/temp.js';
import { conformance } from './suite.js';

describe.skipIf(cannotSshd() !== undefined)('ssh+sftp', () => {
  beforeAll(async () => {
    process.env['FARBUS_SSH'] = (await Sshd.start()).ssh;
  });
  const disk = tempImage(4 << 20);
  conformance('OpenSSH sftp-server', async () => ({ device: await openSshSftp(`ssh+sftp://test${disk}`) }), {
    persistent: true,
    openReadOnly: async () => ({ device: await openSshSftp(`ssh+sftp://test${disk}`, { readOnly: true }) }),
  });
  const odd = tempImage(1_000_001);
  conformance('ssh://, a file of odd length', async () => ({ device: await openSsh(`ssh://test${odd}`) }));
  if (cannotLoop() === undefined) {
    const loop = attachLoop(tempImage(4 << 20));
    conformance('a block device', async () => ({ device: await openSshSftp(`ssh+sftp://test${loop}`) }));
  }
});

describe.skipIf(cannotSshd() !== undefined)('ssh+sftp, internal', () => {
  beforeAll(async () => {
    process.env['FARBUS_SSH'] = (await Sshd.start({ config: ['Subsystem sftp internal-sftp'], noSftp: true })).ssh;
  });
  const disk = tempImage(4 << 20);
  conformance('internal-sftp', async () => ({ device: await openSshSftp(`ssh+sftp://test${disk}`) }));
});
