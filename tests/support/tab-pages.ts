/**
 * Pages of one's own with a computer in the tab, and the server of its disks and guest: `farbus
 * serve --web` in a process of its own. The pages have another origin than that server. One loads
 * the built package by an import map, and Vite has bundled the other.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Rolldown } from 'vite';
import { startFarbus, type Started } from '../interop/farbus.js';
import { tempFolder } from './temp.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const types: Readonly<Record<string, string>> = { '.js': 'text/javascript', '.html': 'text/html' };

/** The program of a page: what the tests call is in the global variable `farbus`. */
const program = "import * as farbus from 'farbus/browser'; globalThis.farbus = farbus;";

/** A server of pages. Further files can be added while it runs. */
export class Pages {
  readonly files = new Map<string, string>();
  readonly #server: Server;
  /** The origin of the Farbus server. */
  farbus = '';

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request.url!, response));
  }

  /** Starts it, with the pages `/unbundled` and `/bundled`. */
  static async start(): Promise<Pages> {
    const pages = new Pages();
    for (const [path, text] of await bundled()) pages.files.set(path, text);
    pages.files.set('/bundled', '<!doctype html><script type="module" src="/bundle/page.js"></script>');
    const map = JSON.stringify({ imports: { 'farbus/browser': '/dist/api/browser.js' } });
    pages.files.set(
      '/unbundled',
      `<!doctype html><script type="importmap">${map}</script><script type="module">${program}</script>`,
    );
    await new Promise<void>((resolve) => pages.#server.listen(0, '127.0.0.1', resolve));
    return pages;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #answer(url: string, response: ServerResponse): void {
    const { pathname } = new URL(url, 'http://page');
    const type = types[extname(pathname)] ?? 'text/html';
    const text = this.files.get(pathname) ?? (pathname.startsWith('/dist/') ? readFileSync(join(root, pathname)) : '');
    // Only the import map and the program of a test's page need inline scripts.
    const inline = type === 'text/html' ? " 'unsafe-inline'" : '';
    response.writeHead(text === '' ? 404 : 200, {
      'content-type': type,
      'content-security-policy':
        `default-src 'none'; script-src 'self' ${this.farbus} 'wasm-unsafe-eval'${inline}; ` +
        `connect-src ${this.farbus} ${this.farbus.replace('http', 'ws')}; worker-src 'self'`,
    });
    response.end(text);
  }
}

/** The Farbus server, as its pages reach it. */
export interface TabServer {
  /** Address of the list of the guest's files. */
  readonly guest: string;
  /** "ws://127.0.0.1:PORT/nbd/": an export's name follows. */
  readonly exports: string;
  /** The console token. */
  readonly token: string;
  readonly process: Started;
}

/** Starts `farbus serve --web` for these pages. The process ends with the test file. */
export async function serveTabs(pages: Pages, ...args: readonly string[]): Promise<TabServer> {
  const listen = ['--listen', 'nbd://127.0.0.1:0', '--web', '127.0.0.1:0', '--web-origin', pages.origin];
  const process = startFarbus('serve', ...args, ...listen);
  const [, origin, token] = await process.printed(/(http:\/\/[0-9.:]+)\/#token=(\S+)/);
  pages.farbus = origin!;
  const exports = `${origin!.replace('http', 'ws')}/nbd/`;
  return { guest: `${origin}/guest/system.json`, exports, token: token!, process };
}

/** The program of a page with the package, as Vite bundles both: its files by their paths. */
export async function bundled(): Promise<Map<string, string>> {
  const page = '\0page';
  const result = (await build({
    root: tempFolder(),
    configFile: false,
    logLevel: 'silent',
    base: '/bundle/',
    resolve: { alias: { 'farbus/browser': join(root, 'dist/api/browser.js') } },
    plugins: [
      {
        name: 'page',
        resolveId: (id) => (id === 'page' ? page : null),
        load: (id) => (id === page ? program : null),
      },
    ],
    build: {
      write: false,
      modulePreload: false,
      rollupOptions: { input: { page: 'page' }, output: { entryFileNames: '[name].js' } },
    },
  })) as Rolldown.RolldownOutput;
  return new Map(result.output.map((part) => [`/bundle/${part.fileName}`, textOf(part)]));
}

function textOf(part: Rolldown.OutputChunk | Rolldown.OutputAsset): string {
  if (part.type === 'chunk') return part.code;
  return typeof part.source === 'string' ? part.source : new TextDecoder().decode(part.source);
}
