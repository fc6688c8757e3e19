/** examples/two-gateways: one of two gateways is killed, and its client goes on at the other. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { expect, it } from 'vitest';
import { tempFolder } from '../support/temp.js';
import { farbusFile } from './farbus.js';

it('the example of two gateways copies an image although the first one is killed', () => {
  const folder = tempFolder();
  const image = join(folder, 'disk.img');
  // So much takes two minutes at the rate of the first gateway: it is killed long before.
  writeFileSync(image, randomBytes(128 << 20));
  const command = join(folder, 'farbus');
  writeFileSync(command, `#!/bin/sh\nexec "${process.execPath}" "${farbusFile}" "$@"\n`);
  chmodSync(command, 0o755);
  mkdirSync(join(folder, 'run'), { mode: 0o700 });
  const { status, stdout, stderr } = spawnSync('sh', ['examples/two-gateways/run.sh', image], {
    encoding: 'utf8',
    env: {
      ...process.env,
      PATH: [folder, process.env['PATH']].join(delimiter),
      TMPDIR: folder,
      XDG_RUNTIME_DIR: join(folder, 'run'),
    },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringMatching(/connection lost/) });
  expect(stdout).toContain('the first gateway is killed\nthe copy is complete, and equals the image\n');
});
