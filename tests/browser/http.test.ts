/**
 * `farbus/http` in a browser: a page in Debian's Chromium reads an image from a web server of
 * another origin, which allows it (CORS), by the package's own files.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, normalize } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type * as Http from '../../src/api/http.js';
import { openBrowser } from '../support/chromium.js';
import { ObjectServer, rangeOf } from '../support/http-server.js';

const content = randomBytes(1_000_001);
const html = `<!doctype html><title>test</title><link rel="icon" href="data:,">
<script type="module">globalThis.farbus = await import('/api/http.js');</script>`;

/** A global variable of the page. */
declare const globalThis: { farbus: typeof Http };

let pages: Server;
let objects: ObjectServer;
let page: Page;

beforeAll(async () => {
  pages = createServer((request, response) => {
    if (request.url === '/') return void response.setHeader('content-type', 'text/html').end(html);
    void readFile(join('dist', normalize(request.url!))).then(
      (text) => response.setHeader('content-type', 'text/javascript').end(text),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  objects = await ObjectServer.start(content);
  page = await (await openBrowser()).newPage();
  await page.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/`);
  await page.waitForFunction(() => 'farbus' in globalThis);
}, 180_000);

afterAll(async () => {
  await page?.context().close();
  await objects?.stop();
  pages?.close();
});

/** Lets pages of other origins read, as docs/http.md says. */
function allow(...exposed: readonly string[]): void {
  objects.fault = (request, response) => {
    response.setHeader('access-control-allow-origin', '*');
    if (request.method === 'OPTIONS') {
      const allowed = { 'access-control-allow-headers': 'range, if-match' };
      response.writeHead(204, allowed).end();
      return true;
    }
    objects.send(response, rangeOf(request), { 'access-control-expose-headers': exposed.join(', ') });
    return true;
  };
}

/** Reads the whole object in the page, in pieces; returns its SHA-256 or the error's message. */
function readAll(url: string): Promise<string> {
  return page.evaluate(async (address) => {
    try {
      const disk = await globalThis.farbus.openHttp(address, { reconnectSeconds: 5 });
      const bytes = new Uint8Array(disk.info.size);
      const half = 500_000;
      await Promise.all([disk.read(0, bytes.subarray(0, half)), disk.read(half, bytes.subarray(half))]);
      await disk.close();
      const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    } catch (error) {
      return (error as Error).message;
    }
  }, url);
}

it('a page reads an image of another origin', async () => {
  allow('etag', 'content-range');
  expect(await readAll(objects.url)).toBe(createHash('sha256').update(content).digest('hex'));
  // Chromium asks before it sends If-Match to another origin.
  expect(new Set(objects.requests.map(({ method }) => method))).toEqual(new Set(['GET', 'OPTIONS']));
});

it('a page is told that it may not see the answers of a server', async () => {
  allow();
  expect(await readAll(objects.url)).toMatch(/does not say which bytes it sends/);
  objects.fault = () => false;
  expect(await readAll(objects.url)).toMatch(/^cannot open http.*: Failed to fetch/);
});
