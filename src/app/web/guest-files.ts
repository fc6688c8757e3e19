/**
 * The files that a tab needs for a computer (docs/web.md): under `/guest/` the list system.json, a
 * snapshot of a Debian that has just booted, its kernel and initramfs, and the firmware; under
 * `/engine/` the engine.
 *
 * Not here: the routes (guest-routes.ts), tokens and origins (web/server).
 */
import { readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { brotliCompress, constants, gzip } from 'node:zlib';
import { errnoOf, FarbusError } from '../../base/errors.js';
import { makeFolders } from '../../base/folders.node.js';
import type { Logger } from '../../base/log.js';
import type { GuestFile, GuestSystem } from '../../browser/guest-files.js';
import { sha256, temporaryName } from '../../guest/cache.node.js';
import { markUsed } from '../../guest/cache-use.node.js';
import { prepareFirmware } from '../../guest/firmware.node.js';
import { snapshotKey, v86Module, type Guest } from '../computer/start.js';
import type { Encoding, TypedBytes } from '../../web/server/routes.js';
import { tabGuest, tabMemory, tabPorts, tabSnapshotFile, tabSnapshotKey } from './guest-computer.js';
import type { ThreadAnswer } from './guest-snapshot-thread.js';
import { SharedBytes } from './shared-bytes.js';

/** Files of the engine, which a browser loads without a token. They hold no secret. */
type EngineFile = 'engine' | 'wasm';
const engineTypes: Readonly<Record<EngineFile, string>> = {
  engine: 'text/javascript; charset=utf-8',
  wasm: 'application/wasm',
};

/**
 * Brotli's level for each file of the engine, which is compressed once per server while a browser
 * waits for it: 0.1 to 0.2 s at these levels. The highest level needs 2.5 s for the WebAssembly.
 */
const brotliLevels: Readonly<Record<EngineFile, number>> = { engine: 10, wasm: 9 };

/** Files of the guest, and whether they become shorter by compression. */
const guestFiles: Readonly<Record<Exclude<GuestFile, EngineFile>, { readonly compress: boolean }>> = {
  snapshot: { compress: false },
  bzImage: { compress: false },
  vmlinux: { compress: true },
  initramfs: { compress: false },
  bios: { compress: true },
  vgaBios: { compress: true },
};
type OwnFile = keyof typeof guestFiles;

/** The files for computers in tabs. Each has a name that contains its version. */
export class GuestFolder {
  readonly #log: Logger;
  #guest: Promise<Guest> | undefined;
  readonly #shared = new SharedBytes();
  /**
   * The compressed files of the engine, by their kind and compression. They are kept, as anyone may
   * ask for them.
   */
  readonly #engine = new Map<string, Promise<Uint8Array>>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * The file with this name under `/guest/`. Undefined if there is none.
   * @throws FarbusError if it cannot be made
   */
  async file(name: string): Promise<TypedBytes | undefined> {
    if (name === 'system.json') {
      const bytes = new TextEncoder().encode(JSON.stringify(await this.#system()));
      return { type: 'application/json', bytes };
    }
    const [kind = ''] = name.split('-');
    if (!Object.hasOwn(guestFiles, kind) || name !== (await this.#name(kind as OwnFile))) return undefined;
    const { compress } = guestFiles[kind as OwnFile];
    const bytes = await this.#shared.get(kind, async () => {
      const content = await this.#content(kind as OwnFile);
      return compress ? promisify(gzip)(content) : content;
    });
    return { type: 'application/octet-stream', bytes, ...(compress && { encoding: 'gzip' }), kept: true };
  }

  /** The file with this name under `/engine/`. Undefined if there is none. */
  async engineFile(name: string, encoding: Encoding): Promise<TypedBytes | undefined> {
    const [kind = ''] = name.split('-');
    if (!Object.hasOwn(engineTypes, kind) || name !== (await engineName(kind as EngineFile))) return undefined;
    const bytes = await this.#compressed(kind as EngineFile, encoding);
    return { type: engineTypes[kind as EngineFile], bytes, encoding, kept: true };
  }

  #compressed(kind: EngineFile, encoding: Encoding): Promise<Uint8Array> {
    const key = `${kind} ${encoding}`;
    const known = this.#engine.get(key);
    if (known) return known;
    const made = compressedEngine(kind, encoding);
    this.#engine.set(key, made);
    // The cause may pass: the next request tries again.
    made.catch(() => this.#engine.delete(key));
    return made;
  }

  async #system(): Promise<GuestSystem> {
    const guest = await this.#debian();
    const own = Object.keys(guestFiles) as OwnFile[];
    const paths = [
      ...(await Promise.all(own.map(async (kind) => [kind, await this.#name(kind)] as const))),
      ['engine', `../engine/${await engineName('engine')}`] as const,
      ['wasm', `../engine/${await engineName('wasm')}`] as const,
    ];
    return {
      version: guest.version,
      commandLine: guest.image!.commandLine,
      memory: tabMemory,
      ports: tabPorts,
      key: snapshotKey(guest, tabMemory),
      files: Object.fromEntries(paths) as Record<GuestFile, string>,
    };
  }

  async #name(kind: OwnFile): Promise<string> {
    const guest = await this.#debian();
    return `${kind}-${kind === 'snapshot' ? tabSnapshotKey(guest) : sha256(guest.id).slice(0, 32)}`;
  }

  async #content(kind: OwnFile): Promise<Uint8Array> {
    switch (kind) {
      case 'snapshot':
        return this.#readSnapshot();
      case 'bios':
        return (await prepareFirmware({ log: this.#log })).bios;
      case 'vgaBios':
        return (await prepareFirmware({ log: this.#log })).vgaBios!;
      default:
        return (await this.#debian()).image![kind]!;
    }
  }

  #debian(): Promise<Guest> {
    this.#guest ??= tabGuest(this.#log).catch((error: unknown) => {
      // The cause may pass: the next request tries again.
      this.#guest = undefined;
      throw error;
    });
    return this.#guest;
  }

  async #readSnapshot(): Promise<Uint8Array> {
    const path = tabSnapshotFile(await this.#debian());
    await markUsed(path);
    const there = await readFile(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    if (there) return there;
    this.#log.log('info', 'the system of browser tabs boots once, for its snapshot');
    makeFolders(dirname(path));
    const made = temporaryName(path);
    await inThread(made);
    await rename(made, path);
    return readFile(path);
  }
}

function wasmPath(): string {
  return join(dirname(v86Module()), 'v86.wasm');
}

/** The name of a file of the engine, which contains its version. */
async function engineName(kind: EngineFile): Promise<string> {
  const version = sha256(await readFile(v86Module())).slice(0, 32);
  return `${kind}-${version}.${kind === 'wasm' ? 'wasm' : 'js'}`;
}

async function compressedEngine(kind: EngineFile, encoding: Encoding): Promise<Uint8Array> {
  const content = await readFile(kind === 'wasm' ? wasmPath() : v86Module());
  if (encoding === 'gzip') return promisify(gzip)(content);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: brotliLevels[kind],
    [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
  };
  return promisify(brotliCompress)(content, { params });
}

/** Makes the snapshot in a thread. */
function inThread(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(new URL('./guest-snapshot-thread.js', import.meta.url), { workerData: path });
    thread.once('message', ({ error }: ThreadAnswer) => {
      if (error === undefined) resolve();
      else reject(new FarbusError(error));
      void thread.terminate();
    });
    thread.once('error', reject);
    thread.once('exit', () => reject(new FarbusError('the thread that boots the system of browser tabs has ended')));
  });
}
