/**
 * A page of one's own that lends a picked file, with the modules of dist/ as they are (no bundler),
 * and the acts of a test in it.
 */
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BrowserContext, Page } from 'playwright-core';
import { startFarbus, type Started } from '../interop/farbus.js';
import { openBrowser } from './chromium.js';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));

const html = `<!doctype html><title>Lend</title><input type="file" id="file">
<script type="module">
  import { lend, pickedDisk, pickedWritable } from '/dist/api/browser.js';
  globalThis.states = [];
  /** A file in the page's private file system, which has the interface of a picked one. */
  const opfsDisk = async (size) => {
    const folder = await navigator.storage.getDirectory();
    const handle = await folder.getFileHandle('disk.img', { create: true });
    if ((await handle.getFile()).size === 0) {
      const writer = await handle.createWritable();
      await writer.truncate(size);
      await writer.close();
    }
    return pickedWritable(handle);
  };
  globalThis.start = async (options) => {
    const disk = await (options.opfs ? opfsDisk(options.opfs) : pickedDisk(document.querySelector('#file').files[0]));
    const onState = (state, detail) => states.push([state, detail]);
    globalThis.lending = lend(disk, { ...options, onState, onUse: (use) => (globalThis.use = use) });
  };
  globalThis.ready = true;
</script>`;

/** Serves the page and the modules. */
export class LendPages {
  readonly #http: Server;

  private constructor(http: Server) {
    this.#http = http;
  }

  static async start(): Promise<LendPages> {
    const http = createServer((request, response) => {
      const { pathname } = new URL(request.url!, 'http://localhost');
      if (!pathname.startsWith('/dist/')) {
        response.setHeader('Content-Type', 'text/html');
        return response.end(html);
      }
      readFile(join(dist, normalize(pathname.slice('/dist'.length)))).then(
        (bytes) => {
          response.setHeader('Content-Type', 'text/javascript');
          response.end(bytes);
        },
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    return new LendPages(http);
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async open(browser: BrowserContext): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(`${this.origin}/`);
    await page.waitForFunction(() => (globalThis as { ready?: boolean }).ready);
    return page;
  }

  close(): void {
    this.#http.closeAllConnections();
    this.#http.close();
  }
}

/** The server to which a page lends, with the console token or one for lending. */
export interface LendTo {
  readonly server: string;
  readonly token: string;
  readonly name: string;
}

/** Globals of the page. */
interface LendWindow {
  states: [state: string, detail: string][];
  start(options: LendTo): Promise<void>;
  lending: { stop(): Promise<void> };
}

/** `farbus serve --web`, with a browser whose pages lend to it. */
export class LendServer {
  readonly browser: BrowserContext;
  readonly pages: LendPages;
  readonly to: Omit<LendTo, 'name'>;
  /** "nbd://127.0.0.1:PORT/": the name of an export follows. */
  readonly nbd: string;
  readonly #process: Started;

  private constructor(
    browser: BrowserContext,
    pages: LendPages,
    process: Started,
    nbd: string,
    to: Omit<LendTo, 'name'>,
  ) {
    this.browser = browser;
    this.pages = pages;
    this.#process = process;
    this.nbd = nbd;
    this.to = to;
  }

  /**
   * @param reconnectSeconds how long clients wait for a page that is closed
   * @param source an export of the server itself, as on the command line, with its name
   */
  static async start(reconnectSeconds: number, source: `${string}=${string}`): Promise<LendServer> {
    const pages = await LendPages.start();
    const own = ['--listen', 'nbd://127.0.0.1:0', '--web', '0', '--web-origin', pages.origin];
    const process = startFarbus('serve', ...own, '--reconnect', String(reconnectSeconds), source);
    const [printed] = await process.printed(/nbd:\S+\n(?:.*\n)*http:\S+\n/);
    const nbd = /nbd:\S+\//.exec(printed)![0];
    const page = new URL(/http:\S+/.exec(printed)![0]);
    const to = { server: page.origin, token: page.hash.slice('#token='.length) };
    return new LendServer(await openBrowser(), pages, process, nbd, to);
  }

  /** Lends a file in a new tab, and waits until the server has it. */
  async lent(file: string, name: string): Promise<Page> {
    const page = await this.pages.open(this.browser);
    await lendIn(page, file, { ...this.to, name });
    await untilState(page, 'lent');
    return page;
  }

  /** Rejects if the server does not end in good order. */
  async close(): Promise<void> {
    await this.browser.close();
    this.pages.close();
    this.#process.child.kill('SIGTERM');
    const { code } = await this.#process.ended;
    if (code !== 0) throw new Error(`farbus serve has ended with status ${code}: ${this.#process.stderr()}`);
  }
}

/** Picks a file as a user does, and lends it. Rejects if the page does not take it. */
export async function lendIn(page: Page, file: string, to: LendTo): Promise<void> {
  await page.setInputFiles('#file', file);
  await page.evaluate((options) => (globalThis as unknown as LendWindow).start(options), to);
}

/** Lends a disk of this length in the page's private file system, which is made if needed. */
export async function lendOpfsIn(page: Page, size: number, to: LendTo): Promise<void> {
  await page.evaluate((options) => (globalThis as unknown as LendWindow).start(options), { ...to, opfs: size });
}

/** The latest state of the lending and its sentence. */
export async function stateOf(page: Page): Promise<readonly [state: string, detail: string]> {
  const states = await page.evaluate(() => (globalThis as unknown as LendWindow).states);
  return states.at(-1) ?? ['', ''];
}

/** Waits until the page reports the state, and returns its sentence. */
export async function untilState(page: Page, wanted: string): Promise<string> {
  const now = (): Promise<[string, string][]> => page.evaluate(() => (globalThis as unknown as LendWindow).states);
  await page
    .waitForFunction((state) => (globalThis as unknown as LendWindow).states.at(-1)?.[0] === state, wanted)
    .catch(async () => {
      throw new Error(`the page does not come to ${wanted}: ${JSON.stringify(await now())}`);
    });
  return (await now()).at(-1)![1];
}

export function stopIn(page: Page): Promise<void> {
  return page.evaluate(() => (globalThis as unknown as LendWindow).lending.stop());
}
