/**
 * The files of the console page (dist/web/page), as the build has made them. They are read when
 * they are asked for, so that a page that is built again needs no restart. Only files that the
 * folder lists are served: no path of a request is joined to a folder.
 *
 * Its programs and styles are sent compressed, which every browser accepts: they become a third as
 * long.
 */
import { readdir, readFile } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { TypedBytes } from './routes.js';

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.wasm': 'application/wasm',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
};

/** Endings of the assets that are sent compressed. */
const compressed: readonly string[] = ['.js', '.css'];

/** Files that are served without a token. */
export interface PageFiles {
  /** The file at a path of a request; undefined if there is none. */
  file(path: string): Promise<TypedBytes | undefined>;
}

/** The files of the page in a folder. */
export class Page implements PageFiles {
  readonly #folder: string;
  /** Compressed assets, so that each is compressed once. */
  readonly #compressed = new Map<string, Promise<Uint8Array>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The file at a path of a request; undefined if there is none. */
  async file(path: string): Promise<TypedBytes | undefined> {
    const wanted = path === '/' ? 'index.html' : path.slice(1);
    const names = await readdir(this.#folder, { recursive: true, withFileTypes: true }).catch(() => []);
    const found = names
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .find((file) => relative(this.#folder, file).split(sep).join('/') === wanted);
    const type = types[extname(wanted)];
    if (found === undefined || type === undefined) return undefined;
    const bytes = await readFile(found).catch(() => undefined);
    if (bytes === undefined) return undefined;
    // The names of assets contain a hash of their content.
    if (!wanted.startsWith('assets/')) return { type, bytes };
    if (!compressed.includes(extname(wanted))) return { type, bytes, kept: true };
    const shorter = this.#compressed.get(wanted) ?? promisify(gzip)(bytes);
    this.#compressed.set(wanted, shorter);
    return { type, bytes: await shorter, encoding: 'gzip', kept: true };
  }

  /** True if the page was built. */
  async built(): Promise<boolean> {
    return (await this.file('/')) !== undefined;
  }
}
