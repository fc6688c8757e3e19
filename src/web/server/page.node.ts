/**
 * The files of the console page (dist/web/page), as the build has made them. They are read when
 * they are asked for, so that a page that is built again needs no restart. Only files that the
 * folder lists are served: no path of a request is joined to a folder.
 *
 * Its programs and styles are sent compressed: by Brotli, as the build has compressed them at its
 * highest level, to a client that accepts it, else by gzip, which every browser accepts. They
 * become a quarter or a third as long.
 */
import { readdir, readFile } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Encoding, TypedBytes } from './routes.js';

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
  file(path: string, encoding: Encoding): Promise<TypedBytes | undefined>;
}

/** The files of the page in a folder. */
export class Page implements PageFiles {
  readonly #folder: string;
  /** Assets that were compressed by gzip, so that each is compressed once. */
  readonly #zipped = new Map<string, Promise<Uint8Array>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The file at a path of a request; undefined if there is none. */
  async file(path: string, encoding: Encoding): Promise<TypedBytes | undefined> {
    const wanted = path === '/' ? 'index.html' : path.slice(1);
    const names = await readdir(this.#folder, { recursive: true, withFileTypes: true }).catch(() => []);
    const paths = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    const files = new Map(paths.map((path) => [relative(this.#folder, path).split(sep).join('/'), path]));
    const read = async (name: string): Promise<Uint8Array | undefined> => {
      const path = files.get(name);
      return path === undefined ? undefined : readFile(path).catch(() => undefined);
    };
    const type = types[extname(wanted)];
    if (type === undefined) return undefined;
    // The names of assets contain a hash of their content.
    const kept = wanted.startsWith('assets/');
    const shorter = kept && compressed.includes(extname(wanted));
    const brotli = shorter && encoding === 'br' ? await read(`${wanted}.br`) : undefined;
    if (brotli) return { type, bytes: brotli, encoding: 'br', kept };
    const bytes = await read(wanted);
    if (bytes === undefined || !shorter) return bytes && { type, bytes, kept };
    const zipped = this.#zipped.get(wanted) ?? promisify(gzip)(bytes);
    this.#zipped.set(wanted, zipped);
    return { type, bytes: await zipped, encoding: 'gzip', kept };
  }
}
