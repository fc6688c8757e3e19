// Builds the console page, src/web/page, to dist/web/page with Vite. Everything that the page loads
// is in that folder: the page works without a network beside its server.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';
import { build } from 'vite';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @param {string} [outDir] another folder than dist/web/page, which it empties */
export async function buildPage(outDir = join(root, 'dist/web/page')) {
  await build({
    configFile: false,
    root: join(root, 'src/web/page'),
    // Relative addresses: the page also works below a path of a reverse proxy.
    base: './',
    logLevel: 'warn',
    // Vite would compile JSX for development if NODE_ENV is set, as it is in a test run: slower,
    // longer, and with the paths of the sources.
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact', development: false } },
    worker: { format: 'es' },
    build: {
      outDir,
      emptyOutDir: true,
      target: 'es2022',
      // The Content-Security-Policy permits no data: scripts, and a file of its own is cached.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      rolldownOptions: { checks: { pluginTimings: false } },
    },
  });
  compress(join(outDir, 'assets'));
}

/**
 * Compresses programs and styles by Brotli at its highest level, which would take too long while a
 * browser waits.
 */
function compress(folder) {
  for (const name of readdirSync(folder).filter((one) => /\.(js|css)$/.test(one))) {
    const path = join(folder, name);
    writeFileSync(`${path}.br`, brotliCompressSync(readFileSync(path)));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPage(process.argv[2]);
