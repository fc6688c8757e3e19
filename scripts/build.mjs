// Compiles src/ to dist/ with the TypeScript compiler, and makes the manual pages. There is no
// bundler, so that stack traces, workers' paths and source maps name files that exist in src/. Only
// the console page (page.mjs) is bundled: a browser loads few files faster than many.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = createRequire(import.meta.url).resolve('typescript/lib/tsc.js');
const result = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.json')], { stdio: 'inherit' });
if (result.status !== 0) process.exit(result.status ?? 1);

// The manual pages, which `npm install --global` puts where man(1) finds them.
const { loadCommands } = await import('../dist/cli/commands/registry.js');
const { manualPages } = await import('../dist/cli/manual.js');
const { farbusVersion } = await import('../dist/cli/version.js');
const folder = join(root, 'dist/man');
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
for (const [name, text] of manualPages(await loadCommands(), farbusVersion())) writeFileSync(join(folder, name), text);

const { buildPage } = await import('./page.mjs');
await buildPage();
