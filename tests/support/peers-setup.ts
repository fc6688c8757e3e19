/**
 * Runs before the tests: installs the programs that they run against (nbdkit, qemu-nbd, fio …), if
 * they are missing and installation is permitted. Outside of CI, tests that need a missing program
 * are skipped with a warning.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Time limit of the installation, in ms: longer than a slow mirror takes for some 60 MB. */
const timeoutMs = 15 * 60_000;

/** Runs scripts/test-peers.sh. In CI, throws if a program is missing afterwards. */
export function setUpPeers(): void {
  const script = fileURLToPath(new URL('../../scripts/test-peers.sh', import.meta.url));
  const { status, error } = spawnSync('sh', [script], { stdio: ['ignore', 'inherit', 'inherit'], timeout: timeoutMs });
  if (status === 0) return;
  const reason = error === undefined ? '' : ` (${error.message})`;
  if (process.env['CI']) throw new Error(`programs that the tests run against are missing${reason}: see above`);
  console.warn(`Some tests will be skipped, as programs that they run against are missing${reason}.`);
}
