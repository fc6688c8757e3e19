/** `npm run bench`: its list and its refusals. Nothing is measured here. */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { expect, it } from 'vitest';

function bench(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['bench/run.mjs', ...args], { encoding: 'utf8' });
}

/** Modules that others import, and the one that runs the rest. */
const parts = [
  'ceph.mjs',
  'chromium.mjs',
  'console.mjs',
  'delaying-proxy.mjs',
  'report.mjs',
  'run.mjs',
  'scale-model.mjs',
  'sshd.mjs',
  'tab.mjs',
];

it('lists every benchmark with its purpose and its needs', () => {
  const { status, stdout } = bench('--list');
  expect(status).toBe(0);
  for (const file of readdirSync('bench').filter((name) => name.endsWith('.mjs') && !parts.includes(name))) {
    expect(stdout, file).toMatch(new RegExp(`^node bench/${file}.*\\n  \\S.*\\n  needs: \\S`, 'm'));
  }
  expect(stdout).toContain('needs: nbdkit, qemu-nbd, nbd-server, fio');
});

it('names the benchmarks that it cannot run', () => {
  expect(bench('nonsense')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is no benchmark') });
  expect(bench('--', '--rounds')).toMatchObject({ status: 2, stderr: expect.stringContaining('name it before') });
  const { status, stdout } = bench('--help');
  expect(status).toBe(0);
  expect(stdout).toContain('npm run bench -- guest');
});

it('contains the benchmarks that docs/performance.md names', () => {
  const text = readFileSync('docs/performance.md', 'utf8');
  const there = readdirSync('bench');
  for (const [, file] of text.matchAll(/bench\/([a-z0-9-]+\.mjs)/g)) expect(there).toContain(file);
});
