// Makes the CD of GNU Mach: node tests/guests/mach/make.mjs OUT.ISO [ARGUMENT]. The kernel is
// Debian's package as it is, pinned and verified like the other guests'
// (src/guest/packages.lock.json); build.sh says what else is needed. After npm ci.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageFolder } from '../../../dist/guest/firmware.node.js';

const [out, argument = ''] = process.argv.slice(2);
if (out === undefined) {
  console.error('usage: node tests/guests/mach/make.mjs OUT.ISO [ARGUMENT]');
  process.exit(2);
}
const kernel = 'boot/gnumach-1.8-486.gz';
const folder = await packageFolder('gnumach-image-1.8-486', [`./${kernel}`]);
const script = fileURLToPath(new URL('build.sh', import.meta.url));
const { status, error } = spawnSync('sh', [script, join(folder, kernel), out, argument], { stdio: 'inherit' });
if (error) throw error;
process.exit(status ?? 1);
