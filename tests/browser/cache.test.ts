/**
 * Caches of far disks in the OPFS, kept between visits: a worker of a page opens a drive of `farbus
 * serve --web` as a computer in a tab does, and reads it. The server counts the bytes that are read
 * from it, and hosts' tools change its disk.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TabDrive } from '../../src/api/browser.js';
import { Random } from '../../src/conformance/random.js';
import { openBrowser } from '../support/chromium.js';
import { Pages, serveTabs, type TabServer } from '../support/tab-pages.js';
import { tempFolder } from '../support/temp.js';

const size = (20 << 20) + 4096;
const names = ['visits', 'changed', 'open', 'killed', 'tabs', 'full', 'refused', 'damaged'] as const;
type Name = (typeof names)[number];

/** The worker of the pages: calls from the test, one at a time. */
const worker = `
  import { openTabDrive } from '/dist/browser/drives.js';
  import { Steps } from '/dist/base/steps.js';
  let device;
  const troubles = [];
  const parts = async () => {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle('farbus');
    for await (const name of folder.keys()) if (name.startsWith('cache-')) return folder.getDirectoryHandle(name);
  };
  const calls = {
    async open(drive, without) {
      if (without) Object.defineProperty(navigator, 'storage', { value: undefined });
      troubles.length = 0;
      const onCache = (text) => troubles.push(text);
      const log = { log: () => undefined };
      device = await openTabDrive(drive, { log, steps: new Steps(), onState: () => undefined, onCache });
    },
    /** The number of the first byte that differs from what its place says; -1 for none. */
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
    write: (at, bytes) => device.write(at, Uint8Array.from(bytes)).then(() => 'written', ({ message }) => message),
    counts: () => device.counts,
    troubles: () => troubles,
    close: () => device.close(),
    /** Changes the files of the cache: flips a bit in many of their blocks, or cuts them off. */
    async damage(kind) {
      const folder = await parts();
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
  for (const [index, name] of names.entries()) writeFileSync(imageOf(name), new Random(index).bytes(size));
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

  static async begin(): Promise<Visit> {
    const page = await browser.newPage();
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
    const drive = { url: `${server.exports}${name}.img`, token: server.token, readOnly: true, cache: true, ...more };
    await visit.call('open', drive, without);
    return visit;
  }

  call<T>(...args: readonly unknown[]): Promise<T> {
    return this.page.evaluate(
      (given) => (globalThis as unknown as { call: (...args: unknown[]) => Promise<unknown> }).call(...given),
      [...args],
    ) as Promise<T>;
  }

  read(): Promise<string> {
    return this.call('read', size);
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
  expect(await visit.read()).toBe(await hashOf(name));
  const troubles = await visit.call<string[]>('troubles');
  await visit.end();
  return troubles;
}

it('reads less than 5 % from the server at the second visit', async () => {
  expect(await readOnce('visits')).toEqual([]);
  const first = await sent('visits');
  expect(first).toBeGreaterThanOrEqual(size);
  expect(await readOnce('visits')).toEqual([]);
  expect(await sent('visits')).toBeLessThan(first + size * 0.05);
  // Below an overlay it is the same cache.
  const before = await sent('visits');
  const visit = await Visit.to('visits', { readOnly: false, overlay: 'mine' });
  expect(await visit.call('write', 4096, [1, 2, 3, 4].concat(Array<number>(508).fill(5)))).toBe('written');
  const changed = readFileSync(imageOf('visits'));
  changed.set([1, 2, 3, 4].concat(Array<number>(508).fill(5)), 4096);
  expect(await visit.read()).toBe(await sha256(changed));
  await visit.end();
  expect(await sent('visits')).toBeLessThan(before + size * 0.05);
}, 240_000);
