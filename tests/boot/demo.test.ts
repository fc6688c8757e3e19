/** The demo as a user runs it: it checks its own work with independent tools, and says so. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ownedName } from '../../src/base/owned.node.js';
import { privateCache } from '../support/private-cache.js';

const cache = privateCache();
const root = fileURLToPath(new URL('../..', import.meta.url));

it('runs to its end, from snapshots the second time, and leaves nothing but the cache', () => {
  // A folder that a killed demo has left: its owner is process 1 with another start time.
  const folder = join(cache, 'farbus');
  mkdirSync(join(folder, ownedName('demo-').replace(/\d+-\d+/, '1-1')));
  run();
  const stdout = run();
  expect(stdout).toContain('OS 2 is up from a snapshot');
  expect(stdout).toMatch(/OS 1 is up, from a snapshot in/);
  expect(stdout).toMatch(/OS 2 is up .*: Linux 5\.10\.\S+, BusyBox v1\.30/);
  expect(stdout).toMatch(/OS 1 is up, .*: Linux 6\.1\.\S+, BusyBox v1\.35/);
  for (const disk of ['demo-ext4.img', 'demo-vfat.img']) {
    expect(stdout).toMatch(new RegExp(`is guest.bin in ${disk}\\?\n  ✓ yes, byte for byte`));
  }
  const [, answered] = /(\d+) of \d+ answered, in/.exec(stdout)!;
  expect(Number(answered)).toBeGreaterThan(0);
  const [, passed, seen] = /the disks' (\d+) frames passed beneath; OS 2's card got (\d+) frames/.exec(stdout)!;
  // One answer for each ping, and a few for the name resolution.
  expect(Number(seen)).toBeLessThan(Number(answered) + 20);
  expect(Number(passed)).toBeGreaterThan(200);
  expect(stdout).toMatch(/\d+ commands \(\d+ reads, \d+ writes/);
  expect(stdout).toMatch(/Median latencies: .*\d ms/);
  expect(stdout).not.toContain('\x1b'); // quiet in a pipe
  const left = readdirSync(folder).filter((name) => name.startsWith('demo-'));
  expect(left).toEqual([]);
}, 600_000);

function run(): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['bin/farbus.js', 'demo'], {
    cwd: root,
    env: { ...process.env, XDG_CACHE_HOME: cache },
    encoding: 'utf8',
    timeout: 280_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect(status, stdout + stderr).toBe(0);
  return stdout;
}
