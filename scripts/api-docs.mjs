// Writes docs/api, the reference of the library, from the docstrings (typedoc.json): part of npm
// run docs. With --check it only compares: the lint run fails if docs/api is out of date, if an
// export has no docstring, or if a type that an export mentions is not exported.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const docs = join(root, 'docs/api');
const check = process.argv.includes('--check');
const out = check ? mkdtempSync(join(tmpdir(), 'farbus-docs-')) : docs;

/** The pages in a folder: their texts by their paths. */
function pages(folder) {
  const names = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.md'));
  return new Map(names.sort().map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

function generate() {
  const typedoc = join(root, 'node_modules/typedoc/bin/typedoc');
  const args = [typedoc, '--out', out, '--logLevel', 'Warn', '--treatWarningsAsErrors'];
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status === 0;
}

try {
  if (!generate()) process.exitCode = 1;
  else if (check) {
    const [now, wanted] = [pages(docs), pages(out)];
    const stale = [...new Set([...now.keys(), ...wanted.keys()])].filter((name) => now.get(name) !== wanted.get(name));
    for (const name of stale) console.error(`docs/api/${name} is out of date: npm run docs`);
    if (stale.length > 0) process.exitCode = 1;
  }
} finally {
  if (check) rmSync(out, { recursive: true, force: true });
}
