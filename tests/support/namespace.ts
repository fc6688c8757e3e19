/**
 * A network namespace for one test file, with its own interfaces. It does not touch this machine's
 * network, and disappears with the process, because Vitest runs each file in its own process. Needs
 * root.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { delimiter } from 'node:path';

const CLONE_NEWNET = 0x4000_0000;
const path = [process.env['PATH'], '/usr/sbin', '/sbin'].join(delimiter);

/**
 * Moves this process's main thread, with its future sockets and children, into a new namespace.
 * Returns false if that is impossible here or if a program is missing; it then prints a warning,
 * and in CI it throws. Use as `describe.skipIf(!enterNamespace('vblade'))`.
 */
export function enterNamespace(...programs: readonly string[]): boolean {
  try {
    for (const program of ['ip', ...programs]) {
      const found = spawnSync('sh', ['-c', `command -v ${program}`], {
        stdio: 'ignore',
        env: { ...process.env, PATH: path },
      });
      if (found.status !== 0) throw new Error(`${program} is not installed: run scripts/test-peers.sh`);
    }
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const unshare = koffi.load(null).func('int unshare(int)') as (flags: number) => number;
    if (unshare(CLONE_NEWNET) !== 0) throw new Error('a network namespace of its own needs root on Linux');
    process.env['PATH'] = path;
    ip('link', 'set', 'lo', 'up');
    return true;
  } catch (error) {
    if (process.env['CI']) throw error;
    console.warn(`SKIPPED: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
}

/** Runs ip(8). */
export function ip(...args: readonly string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Creates two interfaces that are connected with each other, both up. */
export function vethPair(a: string, b: string, mtu: number): void {
  ip('link', 'add', a, 'type', 'veth', 'peer', 'name', b);
  for (const name of [a, b]) {
    // No IPv6 address: the kernel would send frames of its own (autoconfiguration).
    ip('link', 'set', name, 'addrgenmode', 'none');
    ip('link', 'set', name, 'mtu', String(mtu), 'up');
  }
  // The kernel drops frames until its next look at the links, which can be a second later.
  const end = Date.now() + 10_000;
  for (const name of [a, b])
    while (!ip('link', 'show', name).includes('state UP'))
      if (Date.now() > end) throw new Error(`the interface ${name} does not come up`);
}
