/** Programs that make and check file systems: the host's, Debian's, or a line that names them. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { Programs } from '../../src/guest/programs.node.js';
import { tempFolder } from '../support/temp.js';
import { failure } from './guest-server.js';

const system = vi.hoisted(() => ({ platform: 'linux' }));
vi.mock('node:os', async (original) => ({
  ...(await original<typeof import('node:os')>()),
  platform: () => system.platform,
}));

afterEach(() => {
  system.platform = 'linux';
  vi.unstubAllEnvs();
});

it('are those of the host where it has them', async () => {
  const folder = tempFolder();
  writeFileSync(join(folder, 'mcopy'), '#!/bin/sh\necho "$1" > "$2"\n', { mode: 0o755 });
  vi.stubEnv('PATH', `${folder}:${process.env['PATH']}`);
  const programs = await Programs.find(['mcopy'], { mirror: 'http://127.0.0.1:9' });
  expect(programs.fetched).toEqual([]);
  await programs.run('mcopy', ['hello', join(folder, 'said')]);
  expect(execFileSync('cat', [join(folder, 'said')], { encoding: 'utf8' })).toBe('hello\n');
});

it('are named in one line on a system for which Debian has none', async () => {
  system.platform = 'darwin';
  vi.stubEnv('PATH', '/nowhere');
  expect((await failure(Programs.find(['mcopy'], { mirror: 'http://127.0.0.1:9' }))).message).toBe(
    'mcopy is not installed: install mtools (these are the names in Debian)',
  );
});

it('are fetched where the host has none, and a failure is one line', async () => {
  vi.stubEnv('PATH', '/nowhere');
  const cacheDir = join(tempFolder(), 'cache');
  mkdirSync(cacheDir);
  const finding = Programs.find(['mcopy'], { cacheDir, mirror: 'http://127.0.0.1:9', attempts: 1 });
  expect((await failure(finding)).message).toMatch(
    /^cannot get the package dosfstools: http:\/\/127\.0\.0\.1:9\/[^\n]+$/,
  );
});
