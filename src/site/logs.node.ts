/**
 * The logs of a site as it writes them: of each computer what its hypervisor says and what its console prints, and the
 * computers' states. Each is bounded (rotating-file.node.ts). read-logs.node.ts reads them.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { olderPart, RotatingFile } from './rotating-file.node.js';

/** Longest part of a log, in bytes; there are two. */
const maxSize = 8 << 20;
/** Longest line, in characters. */
const maxLine = 4000;

/** What the name of a computer's log ends with: what its hypervisor says, what its console printed, its steps (`--trace`). */
export const logEnd = '.log';
export const consoleEnd = '.console';
export const traceEnd = '.trace';

export class SiteLogs {
  readonly folder: string;
  readonly #files = new Map<string, RotatingFile>();

  /** Removes what an earlier run of the site has left in `folder`. */
  constructor(folder: string) {
    this.folder = folder;
    const ends = [logEnd, consoleEnd, traceEnd].flatMap((end) => [end, end + olderPart]);
    for (const name of readdirSync(folder)) {
      if (ends.some((end) => name.endsWith(end))) rmSync(join(folder, name), { force: true });
    }
  }

  /** A line with its time, in `NAME.log`. @throws FarbusError where there can be no such file. */
  line(name: string, text: string): void {
    const line = text.replace(/[\r\n]+/g, ' ').slice(0, maxLine);
    this.#file(name + logEnd).append(Buffer.from(`${new Date().toISOString()} ${line}\n`));
  }

  /** Bytes of a console, in `NAME.console`. @throws FarbusError where there can be no such file. */
  output(name: string, bytes: Uint8Array): void {
    this.#file(name + consoleEnd).append(bytes);
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }

  #file(name: string): RotatingFile {
    let file = this.#files.get(name);
    if (!file) this.#files.set(name, (file = new RotatingFile(join(this.folder, name), maxSize)));
    return file;
  }
}
