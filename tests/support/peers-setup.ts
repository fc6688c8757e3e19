/**
 * Before the tests: the programs that they run against (nbdkit, qemu-nbd, fio …) are installed where they are missing
 * and may be installed. Outside of CI the tests that need a missing one then say so and are skipped.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Longer than a slow mirror takes for some 60 MB. */
const timeoutMs = 15 * 60_000;

/** Runs scripts/test-peers.sh. Throws in CI where something is missing afterwards. */
export function setUpPeers(): void {
  const script = fileURLToPath(new URL('../../scripts/test-peers.sh', import.meta.url));
  const { status, error } = spawnSync('sh', [script], { stdio: ['ignore', 'inherit', 'inherit'], timeout: timeoutMs });
  if (status === 0) return;
  const reason = error === undefined ? '' : ` (${error.message})`;
  if (process.env['CI']) throw new Error(`programs that the tests run against are missing${reason}: see above`);
  console.warn(`Some tests will be skipped, as programs that they run against are missing${reason}.`);
}
