/** The spin wait: it must end by itself, with or without an answer. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Contention } from '../../src/base/spin-wait.node.js';

const spinWait = new URL('../../dist/base/spin-wait.node.js', import.meta.url).href;

/**
 * Runs a program that has a SpinWait `v`. The program ends when nothing keeps its event loop alive.
 */
function run(program: string): string {
  const text = `import { SpinWait } from ${JSON.stringify(spinWait)}; const v = new SpinWait(50); ${program}`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', text], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    encoding: 'utf8',
    timeout: 30_000,
  });
}

it.each([
  ['an answer never comes', 'v.sent();'],
  ['an answer comes at once', 'v.sent(); v.arrived();'],
  ['answers come without a request', 'v.arrived(); v.arrived(); v.sent(); v.end(); v.end(); v.arrived();'],
  ['several wait, and one ends', 'const w = new SpinWait(50); v.sent(); w.sent(); w.end();'],
])('the loop comes to rest where %s', (_what, program) => {
  expect(run(`${program} console.log('asked');`)).toBe('asked\n');
});

it('an event loop that was preempted during a spin wait does not spin for a while', () => {
  let losses = 3;
  const contention = new Contention(() => losses);
  // An iteration that was not late is not checked.
  contention.begin(1000);
  losses = 4;
  contention.iterated(1000.1);
  expect(contention.rests(1000.1)).toBe(false);
  contention.iterated(1001);
  expect(contention.rests(1001)).toBe(true);
  expect(contention.rests(1200)).toBe(false);
  // A late iteration without involuntary context switches was caused by the loop's own work.
  contention.begin(2000);
  contention.iterated(2003);
  expect(contention.rests(2003)).toBe(false);
});
