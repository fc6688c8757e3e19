/**
 * Caches of far disks in the OPFS, kept between visits: a worker of a page opens a drive of `farbus
 * serve --web` as a computer in a tab does, and reads it. The server counts the bytes that are read
 * from it, and hosts' tools change its disk.
 */
import {
  closeSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { BrowserContext, CDPSession, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TabDrive } from '../../src/api/browser.js';
import { Random } from '../../src/conformance/random.js';
import { openBrowser } from '../support/chromium.js';
import { Pages, serveTabs, type TabServer } from '../support/tab-pages.js';
import { tempFolder } from '../support/temp.js';

/** The disks, and their sizes in bytes. A file of a cache in the OPFS has 16 MiB. */
const sizes = {
  visits: (17 << 20) + 4096,
  changed: 2 << 20,
  killed: 2 << 20,
  tabs: 2 << 20,
  damaged: 4 << 20,
  full: 33 << 20,
  overlaid: 64 << 20,
} as const;
type Name = keyof typeof sizes;
const names = Object.keys(sizes) as Name[];

/** The worker of the pages: calls from the test, one at a time. */
const worker = `
  import { openTabDrive } from '/dist/browser/drives.js';
  import { Steps } from '/dist/base/steps.js';
  let device;
  const troubles = [];
  const parts = async (disk) => {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle('farbus');
    for await (const name of folder.keys()) {
      if (name.startsWith('cache-') && name.includes(disk)) return folder.getDirectoryHandle(name);
    }
  };
  const calls = {
    async open(drive, without) {
      if (without) Object.defineProperty(navigator, 'storage', { value: undefined });
      troubles.length = 0;
      const onCache = (text) => troubles.push(text);
      const log = { log: () => undefined };
      device = await openTabDrive(drive, { log, steps: new Steps(), onState: () => undefined, onCache });
    },
    /** The SHA-256 of the first bytes. */
    async read(length, step = 1 << 18) {
      const digest = [];
      for (let at = 0; at < length; at += step) {
        const bytes = new Uint8Array(Math.min(step, length - at));
        await device.read(at, bytes);
        digest.push(bytes);
      }
      const hash = await crypto.subtle.digest('SHA-256', await new Blob(digest).arrayBuffer());
      return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('');
    },
    write: (at, bytes) => device.write(at, Uint8Array.from(bytes)),
    /** Writes and flushes pieces of 1 MiB until one fails. */
    async fill(length) {
      for (let at = 0; at < length; at += 1 << 20) {
        try {
          await device.write(at, new Uint8Array(1 << 20).fill(7));
          await device.flush();
        } catch ({ kind, message }) {
          return { at, kind, message };
        }
      }
    },
    counts: () => device.counts,
    troubles: () => troubles,
    close: () => device.close(),
    /** Changes the files of the cache: flips a bit in many of their blocks, or cuts them off. */
    async damage(kind, disk) {
      const folder = await parts(disk);
      for await (const name of folder.keys()) {
        const file = await (await folder.getFileHandle(name)).createSyncAccessHandle();
        const length = file.getSize();
        if (kind === 'cut') file.truncate(Math.floor(length / 2));
        else for (let at = 200_000; at < length; at += 300_000) {
          const byte = new Uint8Array(1);
          file.read(byte, { at });
          byte[0] ^= 4;
          file.write(byte, { at });
        }
        file.flush();
        file.close();
      }
    },
  };
  onmessage = async ({ data: [method, ...args] }) => {
    try {
      postMessage({ value: await calls[method](...args) });
    } catch (error) {
      postMessage({ error: String(error?.stack ?? error) });
    }
  };
`;

let folder: string;
let pages: Pages;
let server: TabServer;
let browser: BrowserContext;

beforeAll(async () => {
  folder = tempFolder();
  for (const [index, name] of names.entries()) {
    const written = name === 'overlaid' ? new Uint8Array(4096) : new Random(index).bytes(sizes[name]);
    writeFileSync(imageOf(name), written);
    truncateSync(imageOf(name), sizes[name]);
  }
  [pages, browser] = await Promise.all([Pages.start(), openBrowser()]);
  pages.files.set('/worker.js', worker);
  server = await serveTabs(pages, ...names.map((name) => `${imageOf(name)},read-only`));
}, 120_000);

afterAll(async () => {
  await browser?.close();
  pages?.close();
});

function imageOf(name: string): string {
  return join(folder, `${name}.img`);
}

function hashOf(name: Name): Promise<string> {
  return sha256(readFileSync(imageOf(name)));
}

async function sha256(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', Uint8Array.from(bytes))).toString('hex');
}

/** An answer of the server's JSON interface. */
async function ask<T>(path: string): Promise<T> {
  const response = await fetch(new URL(path, server.guest), { headers: { authorization: `Bearer ${server.token}` } });
  return (await response.json()) as T;
}

/** Bytes that were read from an export so far. */
async function sent(name: Name): Promise<number> {
  const { exports } = await ask<{ exports: { name: string; bytesRead: number }[] }>('/api/exports');
  return exports.find((one) => one.name === `${name}.img`)!.bytesRead;
}

/** Waits until the server confirms the present content of a disk. */
async function settled(name: Name): Promise<void> {
  for (;;) {
    const { version } = await ask<{ version: string | null }>(`/version/${name}.img`);
    if (version !== null) return;
    await pause();
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 50));
}

/** A page with a worker. */
class Visit {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  static async begin(context = browser): Promise<Visit> {
    const page = await context.newPage();
    await page.goto(`${pages.origin}/unbundled`);
    await page.evaluate(() => {
      const made = new Worker('/worker.js', { type: 'module' });
      const scope = globalThis as unknown as { call: (...args: unknown[]) => Promise<unknown> };
      scope.call = (...args) =>
        new Promise((resolve, reject) => {
          made.onmessage = ({ data }: MessageEvent<{ value?: unknown; error?: string }>) =>
            data.error === undefined ? resolve(data.value) : reject(new Error(data.error));
          made.onerror = ({ message }) => reject(new Error(message));
          made.postMessage(args);
        });
    });
    return new Visit(page);
  }

  /** Opens the drive of an image with a cache. */
  static async to(name: Name, more: Partial<TabDrive> = {}, without = false): Promise<Visit> {
    await settled(name);
    const visit = await Visit.begin();
    await visit.open(name, more, without);
    return visit;
  }

  call<T>(...args: readonly unknown[]): Promise<T> {
    return this.page.evaluate(
      (given) => (globalThis as unknown as { call: (...args: unknown[]) => Promise<unknown> }).call(...given),
      [...args],
    ) as Promise<T>;
  }

  open(name: Name, more: Partial<TabDrive> = {}, without = false): Promise<void> {
    const address = { url: `${server.exports}${name}.img`, token: server.token };
    // Read-ahead would be above the cache, whose counts the tests read.
    const drive = { ...address, readOnly: true, readAhead: false, cache: true, ...more };
    return this.call('open', drive, without);
  }

  /** The SHA-256 of the disk. */
  read(name: Name): Promise<string> {
    return this.call('read', sizes[name]);
  }

  /** Ends it in good order. */
  async end(): Promise<void> {
    await this.call('close');
    await this.page.close();
  }
}

/** Reads a whole disk in a visit of its own. Returns what the cache had to say. */
async function readOnce(name: Name): Promise<string[]> {
  const visit = await Visit.to(name);
  expect(await visit.read(name)).toBe(await hashOf(name));
  const troubles = await visit.call<string[]>('troubles');
  await visit.end();
  return troubles;
}

/** Limits the room of the pages, in bytes. The limit ends with the session. */
async function limitRoom(page: Page, quotaSize: number): Promise<CDPSession> {
  const session = await page.context().newCDPSession(page);
  await session.send('Storage.overrideQuotaForOrigin', { origin: pages.origin, quotaSize });
  return session;
}

function used(page: Page): Promise<number> {
  return page.evaluate(async () => (await navigator.storage.estimate()).usage!);
}

it('reads less than 5 % from the server at the second visit', async () => {
  expect(await readOnce('visits')).toEqual([]);
  const first = await sent('visits');
  expect(first).toBeGreaterThanOrEqual(sizes.visits);
  expect(await readOnce('visits')).toEqual([]);
  expect(await sent('visits')).toBeLessThan(first + sizes.visits * 0.05);
  // Below an overlay it is the same cache.
  const before = await sent('visits');
  const visit = await Visit.to('visits', { readOnly: false, overlay: 'mine', readAhead: true });
  const sector = Array<number>(512).fill(5);
  await visit.call('write', 4096, sector);
  const changed = readFileSync(imageOf('visits'));
  changed.set(sector, 4096);
  expect(await visit.read('visits')).toBe(await sha256(changed));
  await visit.end();
  expect(await sent('visits')).toBeLessThan(before + sizes.visits * 0.05);
}, 240_000);

it('gives no byte of before a change of the disk, also of one with the same size and date', async () => {
  const change = (at: number): void => {
    const { atime, mtime } = statSync(imageOf('changed'));
    const fd = openSync(imageOf('changed'), 'r+');
    writeSync(fd, Uint8Array.of(1, 2, 3), 0, 3, at);
    closeSync(fd);
    utimesSync(imageOf('changed'), atime, mtime);
  };
  await readOnce('changed');
  change(70_001);
  expect(await readOnce('changed')).toEqual([]);
  // While it is open, the change is seen within a second.
  const visit = await Visit.to('changed');
  await visit.read('changed');
  change(140_001);
  const wanted = await hashOf('changed');
  while ((await visit.read('changed')) !== wanted) await pause();
  await settled('changed');
  for (;;) {
    expect(await visit.read('changed')).toBe(wanted);
    const troubles = await visit.call<string[]>('troubles');
    if (troubles.length === 0) await pause();
    else {
      expect(troubles).toEqual(['The cache of the far disk keeps no more: the disk has been written on its server.']);
      break;
    }
  }
  await visit.end();
}, 240_000);

it('is there after the tab was killed', async () => {
  const visit = await Visit.to('killed');
  await visit.read('killed');
  while ((await visit.call<{ seals: number }>('counts')).seals === 0) await pause();
  const session = await browser.newCDPSession(visit.page);
  const gone = new Promise<void>((resolve) => visit.page.once('crash', () => resolve()));
  session.send('Page.crash').catch(() => undefined);
  await gone;
  await visit.page.close();
  const next = await Visit.to('killed');
  expect(await next.read('killed')).toBe(await hashOf('killed'));
  expect(await next.call('counts')).toMatchObject({ hitBytes: sizes.killed, missBytes: 0 });
  await next.end();
}, 240_000);

it('a second tab, and a browser without OPFS, read without a cache and say why', async () => {
  const first = await Visit.to('tabs');
  const second = await Visit.to('tabs');
  expect(await second.read('tabs')).toBe(await hashOf('tabs'));
  expect(await second.call('troubles')).toEqual([
    expect.stringMatching(/^The far disk is read without a cache: the cache .* is in use in another tab/),
  ]);
  await first.end();
  await second.end();
  const without = await Visit.to('tabs', {}, true);
  expect(await without.read('tabs')).toBe(await hashOf('tabs'));
  expect(await without.call('troubles')).toEqual([
    expect.stringMatching(/^The far disk is read without a cache: this browser has no private file system/),
  ]);
  await without.end();
}, 240_000);

it.each(['flipped bits in', 'cut'])(
  'a cache whose files were %s gives no wrong byte',
  async (kind) => {
    await readOnce('damaged');
    const visit = await Visit.begin();
    await visit.call('damage', kind === 'cut' ? 'cut' : 'bits', 'damaged');
    const before = await sent('damaged');
    await visit.open('damaged');
    expect(await visit.read('damaged')).toBe(await hashOf('damaged'));
    const { hitBytes } = await visit.call<{ hitBytes: number }>('counts');
    expect(hitBytes).toBeGreaterThan(0);
    expect(await sent('damaged')).toBeGreaterThan(before + (512 << 10));
    await visit.end();
  },
  240_000,
);

it('stops at a full quota and says so, leaves room for overlays, and reads go on', async () => {
  // Of its own, because what others have closed is still counted for a time.
  const alone = await openBrowser();
  const visit = await Visit.begin(alone);
  // Enough for the first file of the cache, not for the second.
  const forCache = await limitRoom(visit.page, 28 << 20);
  await settled('full');
  await visit.open('full');
  expect(await visit.read('full')).toBe(await hashOf('full'));
  expect(await visit.read('full')).toBe(await hashOf('full'));
  expect(await visit.call('troubles')).toEqual([
    expect.stringMatching(/^The cache of the far disk keeps no more: this browser gives the page no more room/),
  ]);
  const { hitBytes, missBytes } = await visit.call<{ hitBytes: number; missBytes: number }>('counts');
  expect(hitBytes).toBeGreaterThan(8 << 20);
  expect(missBytes).toBeLessThan(2 * sizes.full);
  await visit.call('close');
  // An overlay gets the room that is left. Beyond it a write fails, and no flushed byte is lost.
  const overlay = { readOnly: false, overlay: 'little', cache: false };
  await forCache.detach();
  const forOverlay = await limitRoom(visit.page, (await used(visit.page)) + (8 << 20));
  await visit.open('overlaid', overlay);
  const failure = await visit.call<{ at: number; kind: string; message: string }>('fill', sizes.overlaid);
  expect(failure).toMatchObject({
    kind: 'no-space',
    message: expect.stringMatching(/gives the page no more room: delete overlays or caches/) as string,
  });
  expect(failure.at).toBeGreaterThan(0);
  await visit.call('close');
  await forOverlay.detach();
  await visit.open('overlaid', overlay);
  expect(await visit.call('read', failure.at)).toBe(await sha256(new Uint8Array(failure.at).fill(7)));
  await visit.end();
  await alone.close();
}, 240_000);
