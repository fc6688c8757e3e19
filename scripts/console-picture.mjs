// Takes the README's picture of the console page, docs/images/console.png: a computer in a tab
// reads a far disk, and the page shows the way of one of its reads. Needs chromium, and a build.
// Run it while the computer does nothing else, as the picture shows times:
//
//   node scripts/console-picture.mjs [FILE]
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { browse } from '../bench/chromium.mjs';
import { begin, bootHere, go, run, until } from '../bench/console.mjs';
import { serve } from '../bench/tab.mjs';

const [target = fileURLToPath(new URL('../docs/images/console.png', import.meta.url))] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'farbus-picture-'));
const image = join(folder, 'disk.img');
writeFileSync(image, randomFillSync(new Uint8Array(32 << 20)));

const server = await serve([`disk.img=${image}`], { folder, origin: 'http://127.0.0.1' });
const page = await browse('about:blank', folder);
try {
  await bootHere(page, server.web);
  await run(page, 'dd if=/dev/sda of=/dev/null bs=64k count=100 iflag=direct 2>/dev/null', 'warm');
  // Reads far from each other, one at a time: each goes to the server.
  const read = 'dd if=/dev/sda of=/dev/null bs=64k count=1 iflag=direct skip=$((i*37%400)) 2>/dev/null';
  await begin(page, `sleep 2; for i in $(seq 40); do ${read}; sleep 0.2; done`, 'all-read');
  await go(page, 'flow');
  // The reads of which all times are known, by both computers, and the middle one of them.
  const known =
    "[...document.querySelectorAll('table.commands tbody tr')]" +
    '.map((row) => ({ row, times: [...row.textContent.matchAll(/([\\d.]+) ms/g)].map((one) => Number(one[1])) }))' +
    '.filter(({ row, times }) => /read.*64(\\.0)? KiB/.test(row.textContent) && times.length === 2)';
  await until(page, `${known}.length >= 15`);
  await page.evaluate(`{
    const sorted = ${known}.sort((one, other) => one.times[1] - other.times[1]);
    sorted[sorted.length >> 1].row.querySelector('button').click();
  }`);
  await until(page, '/Follow the newest/.test(document.body.textContent)');
  // The picture plays it after the one that is being played; at rest all of its way is lit.
  await sleep(9000);
  await until(page, "!document.querySelector('.story .lit')");
  await page.evaluate("scrollTo(0, 0), document.querySelector('main').scrollTo(0, 0)");
  await page.evaluate('document.activeElement?.blur()');
  writeFileSync(target, await page.picture(1180, 930));
  console.log(target);
} finally {
  await page.close();
  server.close();
  rmSync(folder, { recursive: true, force: true });
}
