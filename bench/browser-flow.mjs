/**
 * The cost of the console page's section "The flow" for a guest in the same tab: direct reads of
 * 4 KiB and of 1 MiB while the section is open, in turns with the same reads while it is closed.
 * Medians of the guest's own times; wants less than 5 %.
 *
 * node bench/browser-flow.mjs [--rounds N]
 *
 * Needs: chromium.
 */
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { browse } from './chromium.mjs';
import { begin, bootHere, go } from './console.mjs';
import { machineLine, median, ratio } from './report.mjs';
import { serve } from './tab.mjs';

const { values: flags } = parseArgs({ options: { rounds: { type: 'string', default: '5' } } });
const rounds = Number(flags.rounds);
const folder = mkdtempSync(join(tmpdir(), 'farbus-bench-'));
const image = join(folder, 'disk.img');
writeFileSync(image, randomFillSync(new Uint8Array(64 << 20)));
/** Jobs of some 3 s: a shorter one would measure single draws, and the warming up of the engine. */
const jobs = { '4 KiB': { size: 'bs=4k count=10000', times: 1 }, '1 MiB': { size: 'bs=1M count=64', times: 12 } };
/** Time for the page to show the section before the guest begins, in seconds. */
const pause = 3;
const wanted = 5;

/** Seconds of the guest for a job, with this section open. */
async function once(page, { size, times }, section) {
  for (let waitMs = 12_000; ; waitMs *= 2) {
    await go(page, 'computers');
    const dd = `dd if=/dev/sda of=/dev/null ${size} iflag=direct 2>/dev/null`;
    const loop = `for i in $(seq ${times}); do ${dd}; done`;
    const command = await begin(page, `sleep ${pause}; time sh -c '${loop}'`, 'all-done');
    await go(page, section);
    await sleep(waitMs);
    await go(page, 'computers');
    // The terminal draws what it has missed. If the guest still reads, it reads again, with more
    // time for the section.
    await sleep(1000);
    const inTime = await command.isDone();
    const [, minutes, seconds] = /real\s+(\d+)m\s*([\d.]+)s/.exec(await command.done()) ?? [];
    if (inTime && seconds !== undefined) return 60 * Number(minutes) + Number(seconds);
    if (waitMs > 60_000) throw new Error('the guest reads too slowly');
  }
}

const server = await serve([image], { folder, origin: 'http://127.0.0.1' });
const page = await browse('about:blank', folder);
try {
  console.log(machineLine());
  await bootHere(page, server.web);
  for (const [name, job] of Object.entries(jobs)) {
    const took = { flow: [], lend: [] };
    for (let round = -1; round < rounds; round++) {
      for (const section of round % 2 === 0 ? ['flow', 'lend'] : ['lend', 'flow']) {
        const seconds = await once(page, job, section);
        if (round >= 0) took[section].push(seconds);
      }
    }
    const percent = 100 * (median(took.flow) / median(took.lend) - 1);
    console.log(
      `reads of ${name}: ${median(took.lend)} s closed, ${median(took.flow)} s open: ${percent.toFixed(0)} % more, ` +
        `by pairs ${ratio(took.flow, took.lend)} (wanted: below ${wanted} %)`,
    );
  }
} finally {
  await page.close();
  server.close();
  rmSync(folder, { recursive: true, force: true });
}
