/**
 * The console page lends a disk of the browser (OPFS) and a picked file, both writable: real NBD
 * clients write them through `farbus serve --web`, and the bytes are there when the tab was closed
 * and opened again.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { BrowserContext, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNbd } from '../../src/protocol/nbd/initiator/open.node.js';
import { execute, startFarbus, type Started } from '../interop/farbus.js';
import { errorsOf, openBrowser } from '../support/chromium.js';
import { until } from '../support/event-loop.js';
import { tempImage, tempPath } from '../support/temp.js';

const MiB = 1 << 20;

let browser: BrowserContext;
let server: Started;
let nbd: string;
let address: string;
/** The errors of each page. */
const errors: string[][] = [];

beforeAll(async () => {
  const listen = ['--listen', 'nbd://127.0.0.1:0', '--web', '127.0.0.1:0'];
  server = startFarbus('serve', ...listen, '--reconnect', '120', 'system=memory:1M');
  [address] = await server.printed(/http:\S+/);
  nbd = (await server.printed(/(nbd:\S+\/)system/))[1]!;
  browser = await openBrowser();
});

afterAll(async () => {
  await browser.close();
  server.child.kill('SIGTERM');
  expect((await server.ended).code).toBe(0);
  expect(errors.flat()).toEqual([]);
});

/** Opens the console page at its section for lending. */
async function open(context = browser): Promise<Page> {
  const page = await context.newPage();
  errors.push(errorsOf(page));
  await page.goto(address);
  await page.locator('nav a[href="#/lend"]').click();
  await page.getByRole('heading', { name: 'Disks in this browser' }).waitFor();
  return page;
}

/** The panel of a disk that the page lends, once the server has it. */
async function lent(page: Page, name: string): Promise<Locator> {
  const panel = page.locator('section', { has: page.getByRole('heading', { name, exact: true }) });
  await panel.getByText('lent', { exact: true }).waitFor();
  return panel;
}

/** True if a tab of the browser has the disk open. */
function isInUse(page: Page, disk: string): Promise<boolean> {
  return page.evaluate(
    async (name) => (await navigator.locks.query()).held?.some((one) => one.name === `farbus/disk-${name}`) ?? false,
    disk,
  );
}

describe('a disk in this browser', () => {
  test('is written by others, and has the flushed bytes when its tab was closed and opened', async () => {
    let page = await open();
    const panel = await makeAndLend(page, 'mine', '33M');
    await panel.getByText('writable', { exact: true }).waitFor();
    const content = randomBytes(20 * MiB);
    const copied = await execute('nbdcopy', ['--flush', tempImage(content), `${nbd}mine`]);
    expect(copied).toMatchObject({ code: 0, stderr: '' });

    const other = await open();
    await other.getByRole('button', { name: 'Lend the disk mine' }).click();
    await other.getByText('is in use in another tab of this browser').waitFor();
    await other.close();

    const client = await openNbd(`${nbd}mine`);
    await page.close();
    const sector = new Uint8Array(512);
    const waiting = client.read(20 * MiB - 512, sector);
    page = await open();
    // The browser ends the worker of a closed tab in the background.
    await until(async () => !(await isInUse(page, 'mine')));
    await page.getByRole('button', { name: 'Lend the disk mine' }).click();
    await waiting;
    expect(content.subarray(-512).equals(sector)).toBe(true);
    await client.write(33 * MiB - 512, sector);
    await client.flush();
    await client.close();

    await (await lent(page, 'mine')).getByRole('button', { name: 'Stop lending' }).click();
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download the disk mine' }).click(),
    ]);
    const zeroes = Buffer.alloc(13 * MiB - 512);
    expect(readFileSync(await file.path()).equals(Buffer.concat([content, zeroes, sector]))).toBe(true);

    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await page.getByText('The disk mine is removed.').waitFor();
    await page.getByText('None yet.').waitFor();
    await page.close();
  });
});

/** Makes a disk in this browser, and lends it. */
async function makeAndLend(page: Page, name: string, size: string): Promise<Locator> {
  await page.getByLabel('Name of a new disk').fill(name);
  await page.getByLabel(/^Size/).fill(size);
  await page.getByRole('button', { name: 'Make the disk' }).click();
  await page.getByText('The disk is made.').waitFor();
  await page.getByRole('button', { name: `Lend the disk ${name}` }).click();
  return lent(page, name);
}

describe('a disk in a browser with little room', () => {
  test('refuses a write for lack of space, says what to do, and keeps what was flushed', async () => {
    // A browser of its own, because the room of closed disks is counted for a time.
    const alone = await openBrowser();
    let page = await open(alone);
    let panel = await makeAndLend(page, 'little', '64M');
    const session = await page.context().newCDPSession(page);
    const usage = await page.evaluate(async () => (await navigator.storage.estimate()).usage!);
    const limit = { origin: new URL(address).origin, quotaSize: usage + 8 * MiB };
    await session.send('Storage.overrideQuotaForOrigin', limit);

    const content = randomBytes(64 * MiB);
    const written = await execute('nbdcopy', ['--flush', '--connections=1', tempImage(content), `${nbd}little`]);
    expect(written).toMatchObject({ code: 1, stderr: expect.stringContaining('No space left on device') as string });
    const why = 'this browser gives the page no more room: delete overlays or caches or disks of it';
    await panel.getByText(why).waitFor();
    const client = await openNbd(`${nbd}little`);
    let flushed = 0;
    const fill = async (): Promise<string> => {
      for (; flushed < content.length; flushed += MiB) {
        try {
          await client.write(flushed, content.subarray(flushed, flushed + MiB));
          await client.flush();
        } catch (error) {
          return (error as { kind: string }).kind;
        }
      }
      return 'none';
    };
    expect(await fill()).toBe('no-space');
    expect(flushed).toBeGreaterThan(0);
    const kept = new Uint8Array(flushed);
    await client.read(0, kept);
    expect(content.subarray(0, flushed).equals(kept)).toBe(true);
    await client.close();

    // The tab is closed and opened again, and the browser has more room.
    await session.detach();
    await page.close();
    page = await open(alone);
    await until(async () => !(await isInUse(page, 'little')));
    await page.getByRole('button', { name: 'Lend the disk little' }).click();
    panel = await lent(page, 'little');
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [`${nbd}little`, copy])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(copy).subarray(0, flushed).equals(content.subarray(0, flushed))).toBe(true);
    expect(await execute('nbdcopy', ['--flush', tempImage(content), `${nbd}little`])).toMatchObject({ code: 0 });
    await panel.getByRole('button', { name: 'Stop lending' }).click();
    await alone.close();
  });
});

describe('a file that is picked for writing', () => {
  /** The picker gives a file of the page's own file system, which has the same interface. */
  function stubPicker(): void {
    Object.assign(globalThis, {
      showOpenFilePicker: async () => {
        const folder = await navigator.storage.getDirectory();
        return [await folder.getFileHandle('picked.img', { create: true })];
      },
    });
  }

  async function lendPicked(): Promise<Page> {
    const page = await open();
    await page.getByLabel('let others write to it').check();
    await page.getByRole('button', { name: 'Choose a file…' }).click();
    await page.getByRole('button', { name: 'picked.img' }).waitFor();
    await page.getByRole('button', { name: 'Lend', exact: true }).click();
    await lent(page, 'picked.img');
    return page;
  }

  /** SHA-256 of the file, as the browser has it. */
  function hashIn(page: Page): Promise<string> {
    return page.evaluate(async () => {
      const folder = await navigator.storage.getDirectory();
      const file = await (await folder.getFileHandle('picked.img')).getFile();
      const hash = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
      return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    });
  }

  test('has the bytes after a flush, and clients wait for the tab that picks it again', async () => {
    await browser.addInitScript(stubPicker);
    const made = await open();
    await made.evaluate(async (size) => {
      const folder = await navigator.storage.getDirectory();
      const writer = await (await folder.getFileHandle('picked.img', { create: true })).createWritable();
      await writer.truncate(size);
      await writer.close();
    }, 4 * MiB);
    await made.close();

    let page = await lendPicked();
    const content = randomBytes(4 * MiB);
    const copied = await execute('nbdcopy', ['--flush', tempImage(content), `${nbd}picked.img`]);
    expect(copied).toMatchObject({ code: 0, stderr: '' });
    expect(await hashIn(page)).toBe(createHash('sha256').update(content).digest('hex'));

    const client = await openNbd(`${nbd}picked.img`);
    await page.close();
    const sector = new Uint8Array(512);
    const waiting = client.read(MiB, sector);
    page = await lendPicked();
    await waiting;
    expect(content.subarray(MiB, MiB + 512).equals(sector)).toBe(true);
    await client.close();
    const copy = tempPath('copy.img');
    expect(await execute('nbdcopy', [`${nbd}picked.img`, copy])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(copy).equals(content)).toBe(true);
    await page.getByRole('button', { name: 'Stop lending' }).click();
    await page.close();
  });
});
