/** The console page as scripts/build.mjs has built it, within a test run too. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const folder = new URL('../../dist/web/page/assets/', import.meta.url);
const sources = fileURLToPath(new URL('../../src/web/page', import.meta.url));

test('the console page is compiled for use, not for development: without the paths of its sources', () => {
  const programs = readdirSync(folder).filter((name) => name.endsWith('.js'));
  expect(programs).not.toEqual([]);
  const named = programs.filter((name) => readFileSync(new URL(name, folder), 'utf8').includes(sources));
  expect(named).toEqual([]);
});
