/**
 * The demo as a user runs it: it checks its own work with independent tools, and says so. First in
 * a clone, with a PATH on which there is nothing but node; then from the packed package, installed
 * in an empty folder. tests/boot/bare-system.test.ts runs it on a system that has nothing else.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ownedName } from '../../src/base/owned.node.js';
import { privateCache } from '../support/private-cache.js';
import { tempFolder } from '../support/temp.js';

const cache = privateCache();
const root = fileURLToPath(new URL('../..', import.meta.url));

/** Packs the package and installs it as `npm install --global` does, in a folder of its own. */
function installed(): string {
  const folder = tempFolder();
  const npm = (...args: string[]): string => execFileSync('npm', args, { cwd: root, encoding: 'utf8' });
  const [{ filename }] = JSON.parse(npm('pack', '--ignore-scripts', '--json', '--pack-destination', folder)) as [
    { filename: string },
  ];
  npm('install', '--global', '--prefix', folder, '--prefer-offline', '--no-audit', '--no-fund', join(folder, filename));
  return folder;
}

/** A folder with nothing but a link to node. */
function onlyNode(): string {
  const folder = tempFolder();
  symlinkSync(process.execPath, join(folder, 'node'));
  return folder;
}

it('runs to its end, in a clone and from the package, and leaves nothing but the cache', () => {
  // A folder that a killed demo has left: its owner is process 1 with another start time.
  const folder = join(cache, 'farbus');
  mkdirSync(join(folder, ownedName('demo-').replace(/\d+-\d+/, '1-1')));
  expect(run(join(root, 'bin/farbus.js'))).toContain('✓ yes, byte for byte (fsck.vfat and mcopy)');
  const prefix = installed();
  const stdout = run(join(prefix, 'bin/farbus'));
  const example = /farbus up (\S+)/.exec(stdout)![1]!;
  expect(example).toBe(join(prefix, 'lib/node_modules/farbus/examples/demo.yaml'));
  expect(existsSync(example)).toBe(true);
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

function run(program: string): string {
  const { status, stdout, stderr } = spawnSync(program, ['demo'], {
    cwd: tempFolder(),
    env: { ...process.env, XDG_CACHE_HOME: cache, PATH: onlyNode(), LC_ALL: 'C.UTF-8' },
    encoding: 'utf8',
    timeout: 280_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect(status, stdout + stderr).toBe(0);
  return stdout;
}
