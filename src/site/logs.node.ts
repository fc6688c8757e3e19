/** The logs of a site: of each computer what its hypervisor says and what its console prints, and the computers' states. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../base/errors.js';

/** Longest file, in bytes: then it begins anew. */
const maxSize = 32 << 20;

export class SiteLogs {
  readonly folder: string;
  readonly #files = new Map<string, { fd: number; size: number }>();

  /** @param folder Where the files are; those of an earlier run of the site are replaced. */
  constructor(folder: string) {
    this.folder = folder;
  }

  /** A line with its time, in `NAME.log`. */
  line(name: string, text: string): void {
    this.#write(`${name}.log`, Buffer.from(`${new Date().toISOString()} ${text.replace(/[\r\n]+/g, ' ')}\n`));
  }

  /** Bytes of a console, in `NAME.console`. */
  output(name: string, bytes: Uint8Array): void {
    this.#write(`${name}.console`, bytes);
  }

  close(): void {
    for (const { fd } of this.#files.values()) closeSync(fd);
    this.#files.clear();
  }

  #write(name: string, bytes: Uint8Array): void {
    const path = join(this.folder, name);
    let file = this.#files.get(name);
    try {
      if (file && file.size > maxSize) {
        closeSync(file.fd);
        file = undefined;
      }
      if (!file) this.#files.set(name, (file = { fd: openSync(path, 'w', 0o600), size: 0 }));
    } catch (error) {
      throw new FarbusError(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
    }
    try {
      file.size += writeSync(file.fd, bytes);
    } catch {
      // A full disk is no reason to end a site.
    }
  }
}
