/** `farbus cache`: the sizes and last uses of what is kept, and cleaning beside other processes. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeFolder } from '../../src/guest/cache.node.js';
import { markUsed } from '../../src/guest/cache-use.node.js';
import { tempFolder } from '../support/temp.js';

const farbusFile = new URL('../../bin/farbus.js', import.meta.url).pathname;
const useModule = new URL('../../dist/guest/cache-use.node.js', import.meta.url).href;
const dayMs = 24 * 60 * 60 * 1000;

/** A cache with entries that were last used 1, 10 and 100 days ago. */
function cache() {
  const home = tempFolder();
  const folder = join(home, 'farbus');
  for (const kind of ['packages', 'unpacked/old', 'unpacked/new']) mkdirSync(join(folder, kind), { recursive: true });
  writeFileSync(join(folder, 'packages/a.deb'), Buffer.alloc(100_000, 1));
  writeFileSync(join(folder, 'packages/b.deb'), Buffer.alloc(50_000, 1));
  for (const name of ['old', 'new']) writeFileSync(join(folder, 'unpacked', name, 'file'), Buffer.alloc(20_000, 1));
  writeFileSync(join(folder, 'client-demo.snapshot'), 'x');
  writeFileSync(join(folder, 'notes.txt'), 'a file that farbus does not know');
  age(folder, { 'packages/a.deb': 100, 'packages/b.deb': 1, 'unpacked/old': 100, 'unpacked/new': 10 });
  age(folder, { 'client-demo.snapshot': 10 });
  return { home, folder, run: (...args: string[]) => farbus(home, ...args) };
}

function age(folder: string, days: Record<string, number>): void {
  for (const [name, count] of Object.entries(days)) {
    const time = new Date(Date.now() - count * dayMs);
    utimesSync(join(folder, name), time, time);
  }
}

function farbus(home: string, ...args: string[]) {
  const env = { ...process.env, XDG_CACHE_HOME: home };
  const { status, stdout, stderr } = spawnSync(process.execPath, [farbusFile, 'cache', ...args], {
    env,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

function all(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile() && !name.startsWith('users'))
    .sort();
}

describe('farbus cache', () => {
  it('shows the size and the last use of each kind, and the total', () => {
    const { folder, run } = cache();
    const { status, stdout } = run();
    expect(status).toBe(0);
    const day = (days: number): string => new Date(Date.now() - days * dayMs).toISOString().slice(0, 10);
    expect(stdout).toMatch(new RegExp(`^packages +1[45]\\d KiB +${day(1)} `, 'm'));
    expect(stdout).toMatch(new RegExp(`^unpacked +\\d+.\\d KiB +${day(10)} `, 'm'));
    expect(stdout).toMatch(/^snapshots /m);
    expect(stdout).toContain(folder);
    const json = JSON.parse(run('--json').stdout);
    expect(json.kinds.map(({ kind, entries }: { kind: string; entries: number }) => [kind, entries])).toEqual([
      ['packages', 2],
      ['unpacked', 2],
      ['snapshots', 1],
    ]);
    expect(json.total).toBeGreaterThan(190_000);
    expect(json.total).toBe(json.kinds.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0));
  });

  it('counts and removes the computers of browser tabs', () => {
    const { folder, run } = cache();
    mkdirSync(join(folder, 'web'));
    writeFileSync(join(folder, 'web/1.snapshot'), Buffer.alloc(10_000, 1));
    expect(run().stdout).toMatch(/^web +\d+.\d KiB /m);
    run('clean');
    expect(all(folder)).toEqual(['notes.txt']);
  });

  it('of no cache is empty, and makes none', () => {
    const home = tempFolder();
    expect(farbus(home).stdout).toMatch(/^total +0 B/);
    expect(farbus(home, 'clean').stderr).toBe('farbus: removed 0 entries, 0 B\n');
    expect(readdirSync(home)).toEqual([]);
  });

  it.each([
    [['clean', '--older-than', 'x'], '--older-than x: expected a whole number from 0 to 36500'],
    [['--dry-run'], '--older-than and --dry-run are for farbus cache clean'],
    [['empty'], 'farbus cache takes nothing or clean, and not empty'],
    [['clean', 'packages'], 'farbus cache takes nothing or clean, and not packages'],
  ])('refuses %j', (args, message) => {
    const { status, stderr } = farbus(tempFolder(), ...args);
    expect({ status, stderr }).toEqual({ status: 2, stderr: `farbus: ${message}\n` });
  });
});

describe('farbus cache clean', () => {
  it('--dry-run lists what it would remove, and changes nothing', () => {
    const { folder, run } = cache();
    const before = all(folder);
    const { status, stdout, stderr } = run('clean', '--older-than', '30', '--dry-run');
    expect(status).toBe(0);
    expect(stdout.split('\n').map((line) => line.replace(/, .*/, ''))).toEqual([
      join(folder, 'packages/a.deb'),
      join(folder, 'unpacked/old'),
      '',
    ]);
    expect(stderr).toMatch(/^farbus: would remove 2 entries, /);
    expect(all(folder)).toEqual(before);
  });

  it('--older-than removes what was not used for so long, and nothing else', () => {
    const { folder, run } = cache();
    expect(run('clean', '--older-than', '30').stderr).toMatch(/^farbus: removed 2 entries, 1[0-9]+ KiB\n$/);
    const rest = ['client-demo.snapshot', 'notes.txt', 'packages/b.deb', 'unpacked/new/file'];
    expect(all(folder)).toEqual(rest);
  });

  it('removes everything that farbus made, and follows no link', () => {
    const { folder, run } = cache();
    const outside = tempFolder();
    writeFileSync(join(outside, 'mine'), 'mine');
    symlinkSync(outside, join(folder, 'unpacked/link'));
    run('clean');
    expect(all(folder)).toEqual(['notes.txt']);
    expect(readdirSync(outside)).toEqual(['mine']);
  });

  it('keeps what a running process uses, until that process ends', async () => {
    const { folder, run } = cache();
    const entry = join(folder, 'unpacked/old');
    const script = `
      const { markUsed } = await import(${JSON.stringify(useModule)});
      await markUsed(${JSON.stringify(entry)});
      console.log('ready');
      setInterval(() => 0, 1000);`;
    const user = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await once(user.stdout, 'data');
      expect(run('clean').stderr).toMatch(
        /^farbus: removed 4 entries, .*; a running farbus uses 1 more, which stayed\n$/,
      );
      expect(all(folder)).toEqual(['notes.txt', 'unpacked/old/file']);
    } finally {
      user.kill('SIGKILL');
      await once(user, 'exit');
    }
    expect(run('clean').stderr).toMatch(/^farbus: removed 1 entry, /);
    expect(existsSync(entry)).toBe(false);
  });

  it('beside processes that make and read entries never shows them a part of one', async () => {
    const { home, folder } = cache();
    const entry = join(folder, 'unpacked/busy');
    let made = 0;
    const cleaning = spawn(
      'sh',
      [
        '-c',
        'for i in 1 2 3 4 5 6; do "$0" "$1" cache clean 2>/dev/null || exit 1; done',
        process.execPath,
        farbusFile,
      ],
      { env: { ...process.env, XDG_CACHE_HOME: home } },
    );
    const ended = once(cleaning, 'exit');
    while (cleaning.exitCode === null) {
      await markUsed(entry);
      if (!existsSync(entry)) {
        made++;
        await makeFolder(entry, async (folder) => {
          for (const name of ['1', '2', '3']) writeFileSync(join(folder, name), name);
        });
      }
      expect(readdirSync(entry).sort()).toEqual(['1', '2', '3']);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect((await ended)[0]).toBe(0);
    // This process has announced itself before the first cleaning, so its entry was always kept.
    expect(made).toBe(1);
  });
});
