/** Waiting awake: it must end by itself, whether the answer comes or not. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const vigil = new URL('../../dist/network/vigil.node.js', import.meta.url).href;

/** Runs a program that has a Vigil `v`; it ends when nothing keeps its event loop turning. */
function run(program: string): string {
  const text = `import { Vigil } from ${JSON.stringify(vigil)}; const v = new Vigil(50); ${program}`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', text], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    encoding: 'utf8',
    timeout: 30_000,
  });
}

it.each([
  ['an answer never comes', 'v.sent();'],
  ['an answer comes at once', 'v.sent(); v.arrived();'],
  ['answers come that nobody waits for', 'v.arrived(); v.arrived(); v.sent(); v.end(); v.end(); v.arrived();'],
  ['several wait, and one ends', 'const w = new Vigil(50); v.sent(); w.sent(); w.end();'],
])('the loop comes to rest where %s', (_what, program) => {
  expect(run(`${program} console.log('asked');`)).toBe('asked\n');
});
