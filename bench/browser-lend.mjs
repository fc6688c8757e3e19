/**
 * A file that a tab of Chromium lends: nbdcopy reads it through the server, in turns with the same
 * file served from the disk. Prints the medians in MB/s, and wants 150 MB/s of the tab.
 *
 * node bench/browser-lend.mjs [--rounds N] [--size MIB] [--folder DIR]
 *
 * Needs: chromium, nbdcopy.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { browse } from './chromium.mjs';
import { machineLine, median } from './report.mjs';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    size: { type: 'string', default: '512' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const root = fileURLToPath(new URL('..', import.meta.url));
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

/** Serves the page and the modules of dist/. */
async function servePage() {
  const http = createServer(({ url }, response) => {
    const module = url.startsWith('/dist/') && !url.includes('..');
    response.setHeader('Content-Type', module ? 'text/javascript' : 'text/html');
    response.end(module ? readFileSync(join(root, url)) : html);
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  return http;
}

/** Starts the server. Resolves with the lines that it prints. */
async function serve(origin) {
  const options = ['--listen', 'nbd://127.0.0.1:0', '--web', '0', '--web-origin', origin];
  const child = spawn(process.execPath, [join(root, 'bin/farbus.js'), 'serve', ...options, `disk=${image},read-only`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, XDG_STATE_HOME: folder },
  });
  let text = '';
  await new Promise((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      text += chunk;
      if (/http:\S+\n/.test(text)) resolve();
    });
    child.once('exit', () => reject(new Error('the server ended')));
  });
  return { child, nbd: /nbd:\S+\//.exec(text)[0], web: new URL(/http:\S+/.exec(text)[0]) };
}

/** MB/s of one copy of an export into nothing. */
function copy(uri) {
  const start = performance.now();
  execFileSync('nbdcopy', [uri, 'null:'], { stdio: 'inherit' });
  return size / 1e3 / (performance.now() - start);
}

const part = randomFillSync(new Uint8Array(1 << 20));
for (let at = 0; at < size; at += part.length) writeFileSync(image, part, { flag: 'a' });
utimesSync(image, 1_700_000_000, 1_700_000_000);
const http = await servePage();
const origin = `http://127.0.0.1:${http.address().port}`;
const { child, nbd, web } = await serve(origin);
const page = await browse(origin, folder);
try {
  while (!(await page.evaluate('globalThis.ready === true'))) await sleep(100);
  await page.pick('#file', image);
  const options = { server: web.origin, token: web.hash.slice('#token='.length), name: 'lent' };
  await page.evaluate(`start(${JSON.stringify(options)})`);
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
  child.kill();
  http.close();
  rmSync(folder, { recursive: true, force: true });
}
