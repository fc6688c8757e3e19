/**
 * A computer in a tab of Chromium against the same computer in Node, with the same far disk of
 * `farbus serve --web` over a WebSocket on loopback: direct reads of 1 MiB and of 4 KiB by turns,
 * medians. Also the time until the console page is interactive, its bytes, the time from opening a
 * page to a shell's answer, and the bytes that a second visit reads from the server, with a cache
 * in the browser.
 *
 * node bench/browser.mjs [--rounds N] [--size MIB]
 *
 * Needs: chromium.
 */
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createComputer, startGuest } from '../dist/app/computer/start.js';
import { parseSource } from '../dist/app/source-text.js';
import { openSource } from '../dist/app/sources.js';
import { tabGuest, tabMemory, tabPorts, tabSnapshotFile } from '../dist/app/web/guest-computer.js';
import { browse } from './chromium.mjs';
import { click, element, go, until } from './console.mjs';
import { machineLine, median, ratio } from './report.mjs';
import { openPage, serve, servePage } from './tab.mjs';

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string', default: '7' }, size: { type: 'string', default: '64' } },
});
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const image = join(folder, 'disk.img');
const mib = Number(flags.size);
const rounds = Number(flags.rounds);
const log = { log: () => undefined };
/**
 * Data that each guest reads before the measured reads, in MiB. Until then, both engines compile
 * the emulated processor and the guest's code in other threads, which take longer for a MiB than
 * its reading (5 to 10 ms of processor time on two processors, below 1 ms afterwards).
 */
const warmUpMib = 2048;
/** Waits in a guest until its disk is there. */
const found = 'for i in $(seq 200); do [ -b /dev/sda ] && break; sleep 0.1; done';

const html = `<!doctype html><script type="module">
  import { TabComputer } from '/dist/api/browser.js';
  globalThis.boot = async (options) => {
    globalThis.computer = await TabComputer.start(options);
    return computer.run('echo up');
  };
  globalThis.ready = true;
</script>`;

/**
 * Bytes of the console page and its workers, with headers, that the browser has received since the
 * navigation, not from its cache. Requests of workers, for engine and guest, are not among them.
 */
function received(page) {
  return page.evaluate(`performance.getEntries().reduce((sum, { name, transferSize = 0 }) =>
    /^[/](assets[/].*)?$/.test(URL.canParse(name) ? new URL(name).pathname : '') ? sum + transferSize : sum, 0)`);
}

/** Bytes of the engine's JavaScript as the server sends it to a browser. */
async function engineBytes({ web, token }) {
  const system = new URL('/guest/system.json', web);
  const { files } = await (await fetch(system, { headers: { authorization: `Bearer ${token}` } })).json();
  const options = { method: 'HEAD', headers: { 'accept-encoding': 'br' } };
  const { headers } = await fetch(new URL(files.engine, system), options);
  return Number(headers.get('content-length'));
}

/** The bytes of a console page with a computer and its terminal. */
async function receivedWithComputer(page, web) {
  await page.open('about:blank');
  await page.open(web.href);
  await until(page, "document.querySelector('h2.device-name')");
  await go(page, 'boot');
  await click(page, 'button', 'Start');
  await until(page, element('[role=status]', 'running'));
  await until(page, "document.querySelector('.xterm-helper-textarea')");
  return received(page);
}

/** Time from the navigation to a console page that lists the export and answers a click, in ms. */
async function interactive(page, web) {
  await page.open('about:blank');
  const started = performance.now();
  await page.open(web.href);
  await until(page, "document.querySelector('h2.device-name')", 5);
  const theme = 'document.documentElement.dataset.theme';
  const before = JSON.stringify(await page.evaluate(`String(${theme})`));
  await page.evaluate("document.querySelector('button.theme').click()");
  await until(page, `String(${theme}) !== ${before}`, 5);
  return performance.now() - started;
}

/** The same computer in this process. */
async function computerHere(address) {
  const far = await openSource(parseSource(address), { log });
  const guest = await tabGuest(log);
  const ports = Array.from({ length: tabPorts }, () => ({ device: undefined, bus: 'ahci' }));
  const computer = await createComputer(ports, tabMemory, { log });
  await startGuest(computer, guest, tabSnapshotFile(guest), tabMemory);
  await computer.ahci.attach(0, far);
  return {
    run: (command) => computer.console.run(command, 600_000),
    stop: async () => {
      await computer.stop();
      await far.close();
    },
  };
}

/** A computer in a tab. */
async function computerThere(page, options) {
  const { output } = await page.evaluate(`boot(${JSON.stringify(options)})`);
  if (output !== 'up\n') throw new Error(`the tab's computer answers: ${output}`);
  return { run: (command) => page.evaluate(`computer.run(${JSON.stringify(command)}, 600000)`) };
}

/** Bytes that were read from the disk of the server so far. */
async function bytesRead({ web, token }) {
  const url = new URL('/api/exports', web);
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
  return (await response.json()).exports[0].bytesRead;
}

/** Reads the disk in a new page, with a cache. Returns the bytes that came from the server. */
async function visit(page, origin, options, server) {
  const before = await bytesRead(server);
  await openPage(page, origin);
  const drives = options.drives.map((drive) => ({ ...drive, cache: true }));
  const there = await computerThere(page, { ...options, drives });
  await timed(there, found);
  await timed(there, `dd if=/dev/sda of=/dev/null bs=1M count=${mib} 2>/dev/null`);
  await page.evaluate('computer.stop()');
  return (await bytesRead(server)) - before;
}

async function timed(computer, command) {
  const started = performance.now();
  const { status, output } = await computer.run(command);
  if (status !== 0) throw new Error(`${command}: ${output}`);
  return performance.now() - started;
}

writeFileSync(image, randomFillSync(new Uint8Array(mib << 20)));
const pages = await servePage(html);
const server = await serve([`disk=${image},read-only`], { folder, origin: pages.origin });
const { web, token } = server;
const options = {
  guest: new URL('/guest/system.json', web).href,
  token,
  // Without read-ahead, as the computer in Node.
  drives: [{ url: `ws://${web.host}/nbd/disk`, token, readOnly: true, readAhead: false }],
};
const page = await browse('about:blank', folder);
let here;
try {
  console.log(machineLine());
  const times = [];
  let first;
  for (let round = 0; round < rounds; round++) {
    times.push(await interactive(page, web));
    // The code of the charts is loaded after the page answers.
    await until(page, "document.querySelector('.uplot')");
    first ??= await received(page);
  }
  const each = times.map((ms) => ms.toFixed(0)).join(', ');
  console.log(
    `the console page is interactive after ${each} ms; median ${median(times).toFixed(0)} (wanted: at most 1000)`,
  );
  const more = await receivedWithComputer(page, web);
  const kb = (bytes) => `${(bytes / 1e3).toFixed(0)} KB`;
  const all = first + more + (await engineBytes(server));
  console.log(
    `first load of the console page: ${kb(first)}; with a computer, its terminal and the engine's JavaScript: ${kb(all)} (wanted: below 300)`,
  );
  // The server makes the snapshot at the first request.
  here = await computerHere(`nbd+ws://${web.host}/disk?token=${token}`);
  const openings = [];
  let there;
  for (let round = 0; round < 3; round++) {
    const started = performance.now();
    await openPage(page, pages.origin);
    there = await computerThere(page, options);
    openings.push(performance.now() - started);
  }
  console.log(
    `opening to a shell's answer: ${openings.map((ms) => (ms / 1e3).toFixed(2)).join(', ')} s (wanted: at most 4)`,
  );
  const jobs = {
    '1 MiB': { command: `dd if=/dev/sda of=/dev/null bs=1M count=${mib} iflag=direct 2>/dev/null`, count: mib },
    '4 KiB': { command: 'dd if=/dev/sda of=/dev/null bs=4k count=1000 iflag=direct 2>/dev/null', count: 1000 },
  };
  for (const computer of [here, there]) {
    await timed(computer, found);
    await timed(computer, `for i in $(seq ${Math.ceil(warmUpMib / mib)}); do ${jobs['1 MiB'].command}; done`);
  }
  for (const [name, { command, count }] of Object.entries(jobs)) {
    const ms = { tab: [], node: [] };
    for (let round = -1; round < rounds; round++) {
      for (const [where, computer] of round % 2 === 0
        ? Object.entries({ tab: there, node: here })
        : Object.entries({ node: here, tab: there })) {
        const took = await timed(computer, command);
        if (round >= 0) ms[where].push(took);
      }
    }
    const each = (where) => (median(ms[where]) / count).toFixed(3);
    console.log(
      `direct reads of ${name}: tab ${each('tab')} ms, Node ${each('node')} ms; rate ${ratio(ms.node, ms.tab)} of Node's (wanted: at least 0.7)`,
    );
  }
  const visits = [];
  for (let round = 0; round < 2; round++) visits.push(await visit(page, pages.origin, options, server));
  const share = ((visits[1] / visits[0]) * 100).toFixed(2);
  console.log(
    `reading ${mib} MiB with a cache: first visit ${visits[0]} bytes from the server, second ${visits[1]}, ${share} % (wanted: below 5)`,
  );
} finally {
  await here?.stop();
  await page.close();
  server.close();
  pages.close();
  rmSync(folder, { recursive: true, force: true });
}
