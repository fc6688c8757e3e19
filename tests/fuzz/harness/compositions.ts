/**
 * Servers as `farbus serve --config` composes them, for fuzzing in this process: a configuration
 * file is read by `readSettings` and started by `ServeService`, the two functions that the command
 * line calls. The streams of clients are given to the server directly, which is faster than
 * sockets.
 *
 * Each composition exports `disk`, which has `exportSize` bytes whatever is below it, and
 * `neighbour`, a file that belongs to another client. What is around `disk` (the rest of a
 * partitioned disk, the base of an overlay) must stay as it is.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silent, type Logger } from '../../../src/base/log.js';
import { readSettings } from '../../../src/app/serve/config.js';
import { ServeService } from '../../../src/app/serve/service.js';
import { attachLoop, cannotLoop } from '../../support/root.js';
import { tempFolder } from '../../support/temp.js';
import { putMbr } from '../../unit/probe-disks.js';

export const exportSize = 1 << 16;
/** Every byte of a new disk. */
export const exportFill = 0xa5;
/** Every byte that no client of `disk` may change. */
const outsideFill = 0xc3;
/** Bytes around `disk` where it is a part of a file. */
const around = 1 << 16;
const bootId = '6ba7b810-9dad-41d1-80b4-00c04fd430c8';

/** The files of one server. */
class Files {
  readonly folder = tempFolder();
  /** The URI of a disk on another server. */
  upstream = '';
  /** Checks what no client may change. */
  readonly checks: (() => string | undefined)[] = [];

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A file that clients may write, of `exportSize` bytes. */
  disk(name = 'disk.img', bytes = new Uint8Array(exportSize).fill(exportFill)): string {
    writeFileSync(this.path(name), bytes);
    return this.path(name);
  }

  /** A file of these bytes, of which nothing but [from, to) may change. */
  guarded(name: string, bytes: Uint8Array, from: number, to: number): string {
    const path = this.path(name);
    writeFileSync(path, bytes);
    this.checks.push(() => {
      const now = readFileSync(path);
      now.fill(0, from, to);
      const then = bytes.slice().fill(0, from, to);
      return Buffer.compare(now, then) === 0 ? undefined : `${name} has changed where it must not`;
    });
    return path;
  }

  /** A larger file with the export in its middle. */
  surrounded(name: string, change: (bytes: Uint8Array) => void = () => undefined): string {
    const bytes = new Uint8Array(exportSize + 2 * around).fill(outsideFill);
    bytes.fill(exportFill, around, around + exportSize);
    change(bytes);
    return this.guarded(name, bytes, around, around + exportSize);
  }
}

export interface Composition {
  readonly name: string;
  /** The keys of the export `disk` in the configuration file (docs/serve.md). */
  readonly keys: (files: Files) => Record<string, unknown>;
  /** Other keys of the configuration file. */
  readonly top?: Record<string, unknown>;
  /** `disk` is on another server. */
  readonly upstream?: boolean;
  /** Why it cannot be composed on this machine. */
  readonly without?: () => string | undefined;
}

/** A token that opens the export of the composition `token`. */
export const token = '0123456789abcdef0123456789abcdef';

export const compositions: readonly Composition[] = [
  { name: 'file', keys: (files) => ({ source: files.disk() }) },
  { name: 'block device', keys: (files) => ({ source: attachLoop(files.disk()) }), without: cannotLoop },
  { name: 'gateway', keys: (files) => ({ source: files.upstream }), upstream: true },
  {
    name: 'overlay',
    keys: (files) => ({
      source: `raw:${files.guarded('base.img', new Uint8Array(exportSize).fill(exportFill), 0, 0)}`,
      overlay: files.path('overlay'),
    }),
  },
  { name: 'cache', keys: (files) => ({ source: files.upstream, cache: files.path('cache') }), upstream: true },
  {
    name: 'cache and overlay on a gateway, with readahead',
    keys: (files) => ({
      source: files.upstream,
      cache: files.path('cache'),
      'cache-size': '64k',
      readahead: true,
      overlay: files.path('overlay'),
    }),
    upstream: true,
  },
  { name: 'slice', keys: (files) => ({ source: files.surrounded('d'), offset: around, size: exportSize }) },
  {
    name: 'partition',
    keys: (files) => ({
      source: files.surrounded('d', (bytes) =>
        putMbr(bytes.fill(0, 0, 512), 0, [{ type: 0x83, start: around / 512, count: exportSize / 512 }]),
      ),
      partition: 1,
    }),
  },
  { name: 'rate', keys: (files) => ({ source: files.disk(), rate: '1G' }) },
  { name: 'read-only', keys: (files) => ({ source: files.disk(), 'read-only': true }) },
  { name: 'one writer', keys: (files) => ({ source: files.disk(), 'one-writer': 'read-only' }) },
  { name: 'one client', keys: (files) => ({ source: files.disk(), 'one-writer': 'refuse', 'max-connections': 2 }) },
  { name: 'removable', keys: (files) => ({ source: `${files.disk()},removable` }) },
  { name: 'token', keys: (files) => ({ source: files.disk(), allow: { tokens: [token] } }) },
  { name: 'metrics', keys: (files) => ({ source: files.disk() }), top: { metrics: '127.0.0.1:0' } },
];

/** Those that can be composed on this machine. */
export function possibleCompositions(): Composition[] {
  return compositions.filter(({ without }) => without?.() === undefined);
}

/** A server with its files. */
export class Composed {
  readonly service: ServeService;
  readonly socket: string;
  readonly #files: Files;
  readonly #upstream: Composed | undefined;

  private constructor(service: ServeService, files: Files, upstream: Composed | undefined) {
    this.service = service;
    this.#files = files;
    this.#upstream = upstream;
    this.socket = files.path('s');
  }

  /** @param more Other keys of the configuration file, such as `tls`. */
  static async open(
    { keys, top, upstream: far }: Composition,
    log: Logger = silent,
    more: Record<string, unknown> = {},
  ): Promise<Composed> {
    const files = new Files();
    const upstream = far
      ? await Composed.open({ name: 'upstream', keys: (own) => ({ source: own.disk() }) })
      : undefined;
    if (upstream) files.upstream = upstream.uri('disk');
    const neighbour = files.path('neighbour.img');
    writeFileSync(neighbour, new Uint8Array(exportSize));
    const config = {
      listen: [`nbd+unix:///?socket=${files.path('s')}`],
      ...top,
      ...more,
      exports: [
        { name: 'disk', description: 'the disk', ...keys(files) },
        { name: 'neighbour', source: neighbour },
      ],
    };
    writeFileSync(files.path('serve.yaml'), JSON.stringify(config));
    const service = new ServeService({ log, bootId, sockets: [] });
    try {
      await service.start(await readSettings(files.path('serve.yaml')));
    } catch (error) {
      await service.stop();
      throw error;
    }
    return new Composed(service, files, upstream);
  }

  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${this.socket}`;
  }

  path(name: string): string {
    return this.#files.path(name);
  }

  /**
   * Puts a medium into a removable drive that a client has emptied, as `farbus media insert` does.
   */
  async refill(): Promise<void> {
    const { device } = this.service.server.exports.find('disk')!;
    if (device.media?.medium === '') await this.service.insert('disk', this.#files.disk());
  }

  /** Ends in good order. @returns what is wrong with what no client may change. */
  async close(): Promise<string | undefined> {
    await this.service.stop();
    const wrong = await this.#upstream?.close();
    return wrong ?? this.#files.checks.map((check) => check()).find((one) => one !== undefined);
  }
}
