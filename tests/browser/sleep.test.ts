/**
 * A computer in a tab whose tab is frozen, and whose whole browser stands still, as on a laptop
 * that sleeps: for longer than its guest waits for a command of a disk (30 s), while it writes. The
 * guest goes on, sees no error, and what it has flushed is on the server.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type * as Browser from '../../src/api/browser.js';
import { openBrowser } from '../support/chromium.js';
import { Pages, serveTabs, type TabServer } from '../support/tab-pages.js';
import { tempFolder } from '../support/temp.js';

/** Longer than Linux waits for a command of an ATA disk, with its rounding. In ms. */
const sleepMs = 36_000;
const admin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

/** The global variables of the page. */
declare const globalThis: { farbus: typeof Browser; computer: Browser.TabComputer };

const profile = tempFolder();
const image = join(tempFolder(), 'disk.img');
let pages: Pages;
let server: TabServer;
let browser: BrowserContext;
let page: Page;
const stopped = new Set<number>();

beforeAll(async () => {
  writeFileSync(image, '');
  truncateSync(image, 32 << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', image], { env: admin });
  [pages, browser] = await Promise.all([Pages.start(), openBrowser(profile)]);
  // Slow, so that a command of the guest is nearly always in flight.
  server = await serveTabs(pages, `disk=${image},rate=500K`);
  page = await browser.newPage();
  await page.goto(`${pages.origin}/unbundled`);
  await page.waitForFunction(() => 'farbus' in globalThis);
  const drive = { url: `${server.exports}disk`, token: server.token };
  await page.evaluate(
    async ([guest, token, only]) => {
      globalThis.computer = await globalThis.farbus.TabComputer.start({ guest, token, drives: [only] });
    },
    [server.guest, server.token, drive] as const,
  );
}, 200_000);

afterAll(async () => {
  goOn();
  await browser?.close();
  pages?.close();
});

function run(command: string): Promise<{ output: string; status: number }> {
  return page.evaluate((line) => globalThis.computer.run(line, 200_000), command);
}

/** The number of files that the guest has written and flushed. */
async function written(): Promise<number> {
  return Number((await run('cat /tmp/count')).output);
}

/** Waits until the guest has written more. */
async function goesOn(): Promise<void> {
  const before = await written();
  while ((await written()) < before + 2) await sleep(200);
}

/** The processes of the browser: all descendants of those that name its profile. */
function processesOfBrowser(): number[] {
  const parents = new Map<number, number>();
  const found = new Set<number>();
  for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1').replace(/^.*\) /s, '');
      parents.set(Number(name), Number(stat.split(' ')[1]));
      if (readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(`--user-data-dir=${profile}`)) {
        found.add(Number(name));
      }
    } catch {
      // It has ended meanwhile.
    }
  }
  const isOurs = (pid: number | undefined): boolean =>
    pid !== undefined && pid > 1 && (found.has(pid) || isOurs(parents.get(pid)));
  return [...parents.keys()].filter(isOurs);
}

function goOn(): void {
  for (const pid of stopped) process.kill(pid, 'SIGCONT');
  stopped.clear();
}

it('a computer in a tab that sleeps goes on without an error, and loses no flushed byte', async () => {
  await run(
    'for i in $(seq 200); do blockdev --getsize64 /dev/sda >/dev/null 2>&1 && break; sleep 0.1; done; ' +
      'mount /dev/sda /mnt && echo 0 > /tmp/count',
  );
  const file = 'dd if=/dev/urandom of=/mnt/f$((n % 8)) bs=64k count=4 conv=fsync 2>/dev/null';
  await run(
    `(n=0; until [ -e /tmp/stop ]; do n=$((n+1)); ${file} || echo $n >> /tmp/failed; echo $n > /tmp/count; done; ` +
      'touch /tmp/stopped) </dev/null >/dev/null 2>&1 &',
  );
  await goesOn();

  const session = await page.context().newCDPSession(page);
  await session.send('Page.setWebLifecycleState', { state: 'frozen' });
  await sleep(sleepMs);
  await session.send('Page.setWebLifecycleState', { state: 'active' });
  await goesOn();

  for (const pid of processesOfBrowser()) stopped.add(pid);
  expect(stopped.size).toBeGreaterThan(1);
  for (const pid of stopped) process.kill(pid, 'SIGSTOP');
  await sleep(sleepMs);
  goOn();
  await goesOn();

  await run('touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 0.1; done');
  expect(await run('cat /tmp/failed 2>/dev/null; dmesg | grep -E "I/O error|EXT4-fs error|Remounting"')).toMatchObject({
    output: '',
  });
  const sums = (await run('cd /mnt && sha256sum f0 f1 f2 f3')).output;
  expect((await run('echo after the sleep > /mnt/after && umount /mnt')).status).toBe(0);
  execFileSync('e2fsck', ['-fn', image], { env: admin, stdio: 'pipe' });
  const read = (name: string): Buffer =>
    execFileSync('debugfs', ['-R', `cat ${name}`, image], { env: admin, stdio: ['ignore', 'pipe', 'ignore'] });
  expect(read('after').toString()).toBe('after the sleep\n');
  for (const line of sums.trim().split('\n')) {
    const [sum, name] = line.split(/\s+/);
    expect(await sha256(read(name!)), name).toBe(sum);
  }
}, 400_000);

async function sha256(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', Uint8Array.from(bytes))).toString('hex');
}
