/** Conformance: dd over ssh, on servers of the test's own with several kinds of dd. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe } from 'vitest';
import { openSshDd } from '../../src/protocol/dd/open.node.js';
import { missing } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop } from '../support/root.js';
import { cannotSshd, Sshd, writeScript } from '../support/sshd.js';
import { tempFolder, tempImage } from '../support/temp.js';
import { conformance } from './suite.js';

/** A folder for PATH, with a dd that knows no more than old ones of BSD and macOS do. */
function oldDd(): string {
  const folder = tempFolder();
  writeScript(
    join(folder, 'dd'),
    `for a; do case $a in iflag=*|oflag=*|conv=*fsync*|conv=*nocreat*) echo "dd: unknown operand $a" >&2; exit 1;; esac; done
exec /bin/dd "$@"`,
  );
  return `${folder}:/usr/bin:/bin`;
}

/** A folder for PATH in which everything, the shell too, is BusyBox. */
function busybox(): string {
  const folder = tempFolder();
  execFileSync('busybox', ['--install', '-s', folder]);
  return folder;
}

const servers: readonly { name: string; path?: () => string; steps: number; needs?: string }[] = [
  { name: 'GNU dd', steps: 200 },
  { name: 'BusyBox', path: busybox, steps: 200, needs: 'busybox' },
  { name: 'a dd that counts in blocks only', path: oldDd, steps: 60 },
];

for (const { name, path, steps, needs } of servers) {
  describe.skipIf(cannotSshd() !== undefined || (needs !== undefined && missing(needs)))(`ssh+dd: ${name}`, () => {
    beforeAll(async () => {
      const server = await Sshd.start(path ? { env: { PATH: `${path()}` } } : {});
      process.env['FARBUS_SSH'] = server.ssh;
    });
    const disk = tempImage(4 << 20);
    conformance(name, async () => ({ device: await openSshDd(`ssh+dd://test${disk}`) }), {
      persistent: true,
      steps,
      openReadOnly: async () => ({ device: await openSshDd(`ssh+dd://test${disk}`, { readOnly: true }) }),
    });
    if (name !== 'BusyBox') {
      const odd = tempImage(1_000_001);
      conformance(`${name}, a file of odd length`, async () => ({ device: await openSshDd(`ssh+dd://test${odd}`) }), {
        steps: 40,
        region: 64 << 10,
      });
    }
    if (path === undefined && cannotLoop() === undefined) {
      const loop = attachLoop(tempImage(4 << 20));
      conformance(`${name}, a block device`, async () => ({ device: await openSshDd(`ssh+dd://test${loop}`) }), {
        steps: 40,
      });
    }
  });
}
