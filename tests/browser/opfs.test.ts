/**
 * The suite of BlockDevice on stores, disks, overlays and caches in the OPFS, in a worker of
 * Chromium.
 */
import { beforeAll, afterAll, expect, it } from 'vitest';
import { openBrowser } from '../support/chromium.js';
import { Pages } from '../support/tab-pages.js';

let pages: Pages;

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

beforeAll(async () => {
  pages = await Pages.start();
  pages.files.set('/suite.js', worker);
});

afterAll(() => pages?.close());

it('stores, disks, overlays and caches in the OPFS pass the suite', async () => {
  const browser = await openBrowser();
  const page = await browser.newPage();
  await page.goto(`${pages.origin}/unbundled`);
  const result = await page.evaluate(
    () =>
      new Promise<{ failed: string[]; count: number; replaced: unknown }>((resolve, reject) => {
        const suite = new Worker('/suite.js', { type: 'module' });
        suite.onmessage = ({ data }) => resolve(data as { failed: string[]; count: number; replaced: unknown });
        suite.onerror = ({ message }) => reject(new Error(message));
      }),
  );
  expect(result.failed).toEqual([]);
  // The export was replaced between its connection and the question for its version.
  expect(result.replaced).toBe('the server cannot tell whether this disk has changed');
  expect(result.count).toBeGreaterThan(60);
}, 240_000);
