/**
 * The suite of BlockDevice on stores, disks, overlays and caches in the OPFS, in a worker of
 * Chromium.
 */
import type { BrowserContext } from 'playwright-core';
import { beforeAll, afterAll, expect, it } from 'vitest';
import { openBrowser } from '../support/chromium.js';
import { Pages } from '../support/tab-pages.js';

let pages: Pages;
let browser: BrowserContext;

/** Runs the suite on each kind of device, and tells the page which tests have failed. */
const worker = `
  import { OpfsStore, createOpfsDisk, openOpfsCache, openOpfsDisk, openOpfsOverlay } from '/dist/api/browser.js';
  import { conformance } from '/dist/api/conformance.js';
  import { MemoryDevice } from '/dist/api/index.js';
  const size = (20 << 20) + 4096;
  await createOpfsDisk('disk', size);
  let number = 0;
  /** An overlay of a read-only disk with a cache, as a drive of a computer has them. */
  const cached = async (name) => {
    const far = new MemoryDevice(4 << 20, { readOnly: true });
    const cache = await openOpfsCache(far, name, { version: async () => 'v1', cacheSize: 256 << 10 });
    return openOpfsOverlay(cache, name);
  };
  const kinds = {
    store: async () => ({ device: await OpfsStore.open('cache', 'store', size) }),
    disk: async () => ({ device: await openOpfsDisk('disk') }),
    overlay: async () => ({ device: await openOpfsOverlay(new MemoryDevice(4 << 20), 'overlay' + number++) }),
    cache: async () => ({ device: await cached('cache' + number++) }),
  };
  const replaced = await openOpfsCache(new MemoryDevice(4 << 20, { readOnly: true }), 'replaced', {
    version: async () => 'v2',
    since: 'v1',
  }).catch(({ message }) => message);
  const failed = [];
  let count = 0;
  for (const [kind, open] of Object.entries(kinds)) {
    for (const { name, run } of conformance(open, { region: 256 << 10, steps: 60, persistent: kind === 'store' || kind === 'disk' })) {
      count++;
      await run().catch((error) => failed.push(kind + ': ' + name + ': ' + error.message));
    }
  }
  postMessage({ failed, count, replaced });
`;

/**
 * Removes files of stores from outside, as the browser does when the data of a site are deleted. A
 * store of more than 2 GiB has closed some of its files by then.
 */
const removals = `
  import { OpfsStore, createOpfsDisk, openOpfsDisk, opfsDiskContent, storeNames } from '/dist/api/browser.js';
  const part = 16 << 20;
  const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('farbus', { create: true });
  const outcome = (work) => work.catch(({ kind, message }) => kind + ': ' + message);
  const store = await OpfsStore.open('overlay', 'big', 140 * part);
  const first = async (number) => {
    const bytes = new Uint8Array(512);
    await store.read(number * part, bytes);
    return bytes[0];
  };
  for (let number = 0; number < 130; number++) await store.write(number * part, new Uint8Array(512).fill(7));
  await store.flush();
  const folder = await root.getDirectoryHandle('overlay-big');
  await folder.removeEntry('0');
  const result = { read: await outcome(first(0)), write: await outcome(store.write(512, new Uint8Array(512))) };
  result.others = [await first(1), await first(129)];
  // A file that could not be made has no content yet, and is made by the next write.
  await folder.getDirectoryHandle('130', { create: true });
  result.unmade = [await outcome(store.write(130 * part, new Uint8Array(512).fill(9))), await outcome(first(130))];
  await folder.removeEntry('130');
  await store.write(130 * part, new Uint8Array(512).fill(9));
  result.unmade.push(await first(130));
  await store.close();
  // Another tab removes a disk just before this one has its lock.
  const request = navigator.locks.request.bind(navigator.locks);
  navigator.locks.request = async (...args) => {
    await root.removeEntry('disk-gone', { recursive: true });
    return request(...args);
  };
  const make = async () => (await root.getDirectoryHandle('disk-gone', { create: true }))
    .getFileHandle('disk-4096-' + '0'.repeat(32), { create: true });
  await make();
  result.content = await outcome(opfsDiskContent('gone'));
  await make();
  result.disk = await outcome(openOpfsDisk('gone'));
  result.left = (await storeNames('disk')).includes('gone');
  postMessage(result);
`;

beforeAll(async () => {
  pages = await Pages.start();
  pages.files.set('/suite.js', worker);
  pages.files.set('/removals.js', removals);
  browser = await openBrowser();
});

afterAll(async () => {
  await browser?.close();
  pages?.close();
});

/** The message of a worker of a page. */
async function resultOf<T>(script: string): Promise<T> {
  const page = await browser.newPage();
  await page.goto(`${pages.origin}/unbundled`);
  const result = await page.evaluate(
    (url) =>
      new Promise<unknown>((resolve, reject) => {
        const made = new Worker(url, { type: 'module' });
        made.onmessage = ({ data }) => resolve(data);
        made.onerror = ({ message }) => reject(new Error(message));
      }),
    script,
  );
  await page.close();
  return result as T;
}

it('stores, disks, overlays and caches in the OPFS pass the suite', async () => {
  const result = await resultOf<{ failed: string[]; count: number; replaced: unknown }>('/suite.js');
  expect(result.failed).toEqual([]);
  // The export was replaced between its connection and the question for its version.
  expect(result.replaced).toBe('the server cannot tell whether this disk has changed');
  expect(result.count).toBeGreaterThan(60);
}, 240_000);

it('a file that was removed is an error and no zeroes, and a disk that was removed is none', async () => {
  expect(await resultOf('/removals.js')).toEqual({
    read: expect.stringMatching(/^io: a file .* is gone/) as string,
    write: expect.stringMatching(/^io: a file .* is gone/) as string,
    others: [7, 7],
    unmade: [expect.stringMatching(/^io: /), 0, 9],
    content: 'failed: there is no disk gone in this browser: make it first',
    disk: 'failed: there is no disk gone in this browser: make it first',
    left: false,
  });
}, 240_000);
