/**
 * Which test files a run has: `npm test` leaves out the long ones, `npm run test:all` has all of
 * them in their long form, and `npm run test:rest` has the files in which `test:all` does more than
 * `npm test` does. The random inputs of tests/fuzz are not among these: their long form takes as
 * long as one wants.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Files with some 20 to 200 s of computing each: boots of several guests, a download of a whole
 * system, a Ceph cluster, computers in tabs, an installation of the package, the devices' tests on
 * v86's memory.
 */
const long = [
  'boot/ahci',
  'boot/bare-system',
  'boot/diskless',
  'boot/exchange',
  'boot/exec',
  'boot/kvm',
  'boot/kvm-long',
  'boot/kvm-uefi',
  'boot/late-answers',
  'boot/lent',
  'boot/mach',
  'boot/matrix',
  'boot/stores',
  'boot/tools',
  'browser/bad-times',
  'browser/cache',
  'browser/computer',
  'browser/page-boot',
  'browser/site',
  'browser/sleep',
  'interop/attach-boot',
  'interop/failover',
  'interop/ghost-restart',
  'interop/hostile-servers',
  'interop/package',
  'interop/radosgw',
  'interop/rbd',
  'interop/rbd-faults',
  'interop/replaced',
  'interop/ssh-kill',
  'unit/devices-on-v86',
].map((name) => `tests/${name}.test.ts`);

/** The environment variable that chooses: unset, "1" (all), or "rest". */
const choice = process.env['FARBUS_TEST_ALL'];

/** Patterns of the files to run, and of those to leave out. */
export function testSet(root: string): { include: string[]; exclude: string[] } {
  if (choice === undefined) return { include: ['tests/**/*.test.ts'], exclude: long };
  if (choice !== 'rest') return { include: ['tests/**/*.test.ts'], exclude: [] };
  const files = readdirSync(join(root, 'tests'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts') && !name.startsWith('fuzz'))
    .map((name) => `tests/${name}`);
  const hasLongForm = (file: string): boolean => readFileSync(join(root, file), 'utf8').includes('FARBUS_TEST_ALL');
  return { include: files.filter((file) => long.includes(file) || hasLongForm(file)), exclude: [] };
}
