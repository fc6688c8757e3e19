/** The demo as a user runs it: it checks its own work with tools that are not ours, and says so. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { cacheFolder } from '../../src/guest/cache.node.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

it('runs to its end, and leaves nothing but the cache', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['bin/farbus.js', 'demo'], {
    cwd: root,
    encoding: 'utf8',
    timeout: 280_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect(status, stdout + stderr).toBe(0);
  for (const disk of ['demo-ext4.img', 'demo-vfat.img']) {
    expect(stdout).toMatch(new RegExp(`is guest.bin in ${disk}\\?\n  ✓ yes, byte for byte`));
  }
  expect(stdout).toMatch(/\d+ commands \(\d+ reads, \d+ writes/);
  expect(stdout).toMatch(/Median latencies: .*\d ms/);
  expect(stdout).not.toContain('\x1b'); // quiet in a pipe
  const left = readdirSync(cacheFolder()).filter((name) => name.startsWith('demo-'));
  expect(left).toEqual([]);
}, 300_000);
