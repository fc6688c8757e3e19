/**
 * A file that a tab of Chromium lends: nbdcopy reads it through the server, in turns with the same
 * file served from the disk. Prints the medians in MB/s, and wants 150 MB/s of the tab.
 *
 * node bench/browser-lend.mjs [--rounds N] [--size MIB] [--folder DIR]
 *
 * Needs: chromium, nbdcopy.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { browse } from './chromium.mjs';
import { machineLine, median } from './report.mjs';
import { openPage, serve, servePage } from './tab.mjs';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    size: { type: 'string', default: '512' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const folder = mkdtempSync(join(flags.folder, 'farbus-bench-'));
const image = join(folder, 'lent.img');
const size = Number(flags.size) << 20;
const wanted = 150;

const html = `<!doctype html><input type="file" id="file"><script type="module">
  import { lend } from '/dist/web/lend/lend.js';
  import { pickedDisk } from '/dist/web/lend/picked.js';
  globalThis.start = async (options) => {
    const disk = await pickedDisk(document.querySelector('#file').files[0]);
    const done = new Promise((resolve) => (globalThis.lent = resolve));
    lend(disk, { ...options, onState: (state) => state === 'lent' && lent() });
    return done;
  };
  globalThis.ready = true;
</script>`;

/** MB/s of one copy of an export into nothing. */
function copy(uri) {
  const start = performance.now();
  execFileSync('nbdcopy', [uri, 'null:'], { stdio: 'inherit' });
  return size / 1e3 / (performance.now() - start);
}

const part = randomFillSync(new Uint8Array(1 << 20));
for (let at = 0; at < size; at += part.length) writeFileSync(image, part, { flag: 'a' });
utimesSync(image, 1_700_000_000, 1_700_000_000);
const pages = await servePage(html);
const { origin } = pages;
const server = await serve([`disk=${image},read-only`], { folder, origin });
const { nbd, web, token } = server;
const page = await browse('about:blank', folder);
try {
  await openPage(page, origin);
  await page.pick('#file', image);
  await page.evaluate(`start(${JSON.stringify({ server: web.origin, token, name: 'lent' })})`);
  console.log(machineLine());
  const [tab, disk] = [[], []];
  for (let round = 0; round < Number(flags.rounds); round++) {
    tab.push(copy(`${nbd}lent`));
    disk.push(copy(`${nbd}disk`));
    console.log(`round ${round + 1}: tab ${tab.at(-1).toFixed(0)}, disk ${disk.at(-1).toFixed(0)} MB/s`);
  }
  const got = median(tab);
  console.log(`medians: tab ${got.toFixed(0)} MB/s (wanted: ${wanted}), disk ${median(disk).toFixed(0)} MB/s`);
  if (got < wanted) process.exitCode = 1;
} finally {
  await page.close();
  server.close();
  pages.close();
  rmSync(folder, { recursive: true, force: true });
}
