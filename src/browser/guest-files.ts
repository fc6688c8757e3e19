/**
 * The files of a guest, which a Farbus server offers under `/guest/`: the kernel and initramfs of a
 * Debian, a snapshot of it that has just booted, the firmware, and the engine that fits them.
 *
 * Not here: the server's side, which is in src/app/web.
 */
import { FarbusError, messageOf } from '../base/errors.js';
import { printable } from '../base/printable.js';
import type { Snapshot } from '../machine/snapshot.js';
import { decodeSnapshot } from '../machine/snapshot.js';
import { browserCodec } from './snapshot-codec.js';

/** The list of a guest's files, as the server gives it: `GET /guest/system.json`. */
export interface GuestSystem {
  /** The name of the system, for people: "Debian 12, kernel 6.1.0-37-686". */
  readonly version: string;
  /** The kernel's command line. */
  readonly commandLine: string;
  /** Memory of the computer in the snapshot, in bytes. */
  readonly memory: number;
  /** Number of ports for disks of the computer in the snapshot. */
  readonly ports: number;
  /** Identifies the computer in the snapshot (machine/snapshot.ts). */
  readonly key: string;
  /** Paths of the files, relative to the list. */
  readonly files: Readonly<Record<GuestFile, string>>;
}

/** The files. `engine` is the module of v86, `wasm` its WebAssembly. */
export type GuestFile = 'snapshot' | 'bzImage' | 'vmlinux' | 'initramfs' | 'bios' | 'vgaBios' | 'engine' | 'wasm';

/** The files of a guest on a server. */
export class GuestFiles {
  readonly system: GuestSystem;
  readonly #base: string;
  readonly #token: string | undefined;

  private constructor(system: GuestSystem, base: string, token: string | undefined) {
    this.system = system;
    this.#base = base;
    this.#token = token;
  }

  /**
   * Fetches the list of files.
   * @param url its address: `https://HOST:PORT/guest/system.json`
   * @param token token of access, if the server wants one
   */
  static async load(url: string, token: string | undefined): Promise<GuestFiles> {
    const system = (await (await get(url, token)).json()) as GuestSystem;
    return new GuestFiles(system, url, token);
  }

  /** The address of a file. */
  url(file: GuestFile): string {
    return new URL(this.system.files[file], this.#base).href;
  }

  /** The content of a file. */
  async bytes(file: GuestFile): Promise<Uint8Array> {
    return new Uint8Array(await (await get(this.url(file), this.#token)).arrayBuffer());
  }

  /** The computer that has just booted. The server makes it at the first request. */
  async snapshot(): Promise<Snapshot> {
    return decodeSnapshot(await this.bytes('snapshot'), browserCodec);
  }
}

async function get(url: string, token: string | undefined): Promise<Response> {
  const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(url, { headers }).catch((error: unknown) => {
    throw new FarbusError(`cannot fetch ${url}: ${messageOf(error)}: is the server still there?`);
  });
  if (response.ok) return response;
  const { error } = (await response.json().catch(() => ({}))) as { error?: unknown };
  const said = typeof error === 'string' ? `: ${printable(error, 300)}` : '';
  throw new FarbusError(`the server refuses ${url} (${response.status})${said}`);
}
