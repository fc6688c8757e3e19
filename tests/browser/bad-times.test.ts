/**
 * Bad times for a page: its computer sleeps, its network is a slow phone's, its server starts anew.
 * A paused debugger stands for the sleep, and Chromium's throttling for the network.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, utimesSync } from 'node:fs';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBrowser } from '../support/chromium.js';
import { LendPages, lendIn, stopIn, untilState } from '../support/lend-page.js';
import { tempImage, tempPath } from '../support/temp.js';
import { execute, startFarbus, type Started } from '../interop/farbus.js';

const MiB = 1 << 20;

interface Serving {
  readonly process: Started;
  readonly nbd: string;
  /** The address of the page, with its token. */
  readonly page: URL;
}

let browser: BrowserContext;
let pages: LendPages;
let image: string;

beforeAll(async () => {
  pages = await LendPages.start();
  image = tempImage(MiB);
  browser = await openBrowser();
}, 200_000);

afterAll(async () => {
  await browser.close();
  pages.close();
});

async function serve(web: string): Promise<Serving> {
  const own = ['--listen', 'nbd://127.0.0.1:0', '--web', web, '--web-origin', pages.origin];
  const process = startFarbus('serve', ...own, '--reconnect', '600', `system=${image}`);
  const [printed] = await process.printed(/nbd:\S+\/system\n(?:.*\n)*http:\S+\n/);
  return { process, nbd: /nbd:\S+\//.exec(printed)![0], page: new URL(/http:\S+/.exec(printed)![0]) };
}

async function stop({ process }: Serving): Promise<void> {
  process.child.kill('SIGTERM');
  expect((await process.ended).code).toBe(0);
}

/** Lends a file with this content in a new page. */
async function lent({ page: { origin, hash } }: Serving, content: Uint8Array, name: string): Promise<Page> {
  const file = tempImage(content);
  utimesSync(file, 1_700_000_000, 1_700_000_000);
  const page = await pages.open(browser);
  await lendIn(page, file, { server: origin, token: hash.slice('#token='.length), name });
  await untilState(page, 'lent');
  return page;
}

/** Copies an export, and compares it. */
async function expectCopy(uri: string, content: Uint8Array): Promise<void> {
  const copy = tempPath('copy.img');
  expect(await execute('nbdcopy', [uri, copy], 300_000)).toMatchObject({ code: 0, stderr: '' });
  expect(readFileSync(copy).equals(content)).toBe(true);
}

test('a tab that sleeps until its call is given up goes on, and its reader sees no error', async () => {
  const serving = await serve('0');
  const content = randomBytes(8 * MiB);
  const page = await lent(serving, content, 'asleep');
  const session = await page.context().newCDPSession(page);
  await session.send('Debugger.enable');
  // The page stops before it answers the next request; its connection stays open.
  await session.send('Debugger.pause');
  const copied = expectCopy(`${serving.nbd}asleep`, content);
  const { stderr } = serving.process.child;
  await new Promise<void>((resolve) => {
    const look = (): void => {
      if (/"asleep".*has not answered/.test(serving.process.stderr())) resolve();
    };
    stderr!.on('data', look);
    look();
  });
  // Others are served meanwhile.
  await expectCopy(`${serving.nbd}system`, readFileSync(image));
  // Detaching lets the page go on.
  await session.detach();
  await copied;
  await stopIn(page);
  await page.close();
  await stop(serving);
}, 400_000);

test('a slow network of a phone opens the console page, and carries a lent file', async () => {
  const serving = await serve('0');
  const slow = async (page: Page): Promise<void> => {
    const session = await page.context().newCDPSession(page);
    const rates = { downloadThroughput: 50_000, uploadThroughput: 50_000 };
    await session.send('Network.emulateNetworkConditions', { offline: false, latency: 400, ...rates });
  };
  const console = await browser.newPage();
  await slow(console);
  await console.goto(serving.page.href);
  await console.getByRole('heading', { name: 'system' }).waitFor();
  await console.close();
  const content = randomBytes(MiB / 2);
  const page = await lent(serving, content, 'slow');
  await slow(page);
  await expectCopy(`${serving.nbd}slow`, content);
  await stopIn(page);
  await page.close();
  await stop(serving);
}, 400_000);

test('a tab lends again by itself to a server that has started anew', async () => {
  const first = await serve('127.0.0.1:0');
  const content = randomBytes(MiB);
  const page = await lent(first, content, 'kept');
  await stop(first);
  await untilState(page, 'away');
  const second = await serve(first.page.host);
  await untilState(page, 'lent');
  await expectCopy(`${second.nbd}kept`, content);
  await stopIn(page);
  await page.close();
  await stop(second);
}, 400_000);
