/**
 * Files that a user names for Farbus to write: a file that is not Farbus's own is refused and stays
 * unchanged.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { tempPath } from '../support/temp.js';
import { execute, farbus, farbusFile, startFarbus } from './farbus.js';

const precious = Buffer.concat([Buffer.alloc(32768), Buffer.from('PRECIOUS\n'.repeat(4000))]);

function disk(): string {
  const path = tempPath('disk.img');
  writeFileSync(path, new Random(1).bytes(1 << 20));
  return path;
}

describe('a file that Farbus did not make', () => {
  const cases: readonly (readonly [string, (file: string) => readonly string[], RegExp])[] = [
    ['a cache', (file) => ['serve', disk(), '--cache', file], /is not a cache/],
    ['a kept cache', (file) => ['serve', disk(), '--cache', file, '--cache-keep'], /is not a cache/],
    ['an overlay', (file) => ['attach', disk(), '--overlay', file], /is not an overlay/],
    ['a trace', (file) => ['serve', disk(), `--trace=${file}`], /is not a trace/],
    ['a picture', (file) => ['screenshot', 'nobody', file], /is not a PNG picture/],
    ['a journal', (file) => ['copy', disk(), file.replace(/\.farbus-copy$/, ''), '--resume'], /journal/],
  ];
  for (const [what, command, message] of cases) {
    it(`is not accepted as ${what}`, async () => {
      const file = tempPath('precious.farbus-copy');
      writeFileSync(file, precious);
      writeFileSync(file.replace(/\.farbus-copy$/, ''), Buffer.alloc(1 << 20));
      const { code, stderr } = await farbus(...command(file));
      expect(stderr).toMatch(message);
      expect(stderr).toMatch(/^farbus: [^\n]*\n$/);
      expect(code).toBe(1);
      expect(readFileSync(file).equals(precious)).toBe(true);
    });
  }
});

// Node's recursive mkdir never returns below /proc.
it.skipIf(process.platform !== 'linux').each([
  ['XDG_CACHE_HOME', '/proc/none/x', ['run', '--drive', 'memory:1M', '--exec', 'true']],
  ['XDG_CACHE_HOME', '/dev/null/x', ['run', '--drive', 'memory:1M', '--exec', 'true']],
  ['TMPDIR', '/proc/none/x', ['attach', 'memory:1M']],
  ['TMPDIR', '/dev/null/x', ['attach', 'memory:1M']],
])('a folder that cannot be made is reported in a line: %s=%s', async (variable, path, command) => {
  const args = [`${variable}=${path}`, 'FARBUS_ENGINE=v86', process.execPath, farbusFile, ...command];
  const { code, stderr } = await execute('env', args);
  expect(stderr).toMatch(new RegExp(`^farbus: cannot [^\n]+: set ${variable} to a folder that you may write to\n$`));
  expect(code).toBe(1);
});

it('a trace of an earlier run is replaced', async () => {
  const [image, trace] = [disk(), tempPath('trace')];
  const old = 'boot      404      0.000 ms  an earlier run\n';
  writeFileSync(trace, old);
  const server = startFarbus('serve', image, '--listen', 'nbd://127.0.0.1:0', `--trace=${trace}`);
  await server.printed(/nbd:/);
  server.child.kill('SIGTERM');
  expect((await server.ended).code).toBe(0);
  expect(readFileSync(trace, 'utf8')).not.toContain('an earlier run');
});
