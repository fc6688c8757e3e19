/**
 * Writes the logs of a site: for each computer its hypervisor's messages, its states and its
 * console output. Each file has a bounded size (rotating-file.node.ts).
 *
 * Not here: reading them (read-logs.node.ts).
 */
import { lstatSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { olderPart, RotatingFile } from './rotating-file.node.js';

/** Maximum size of one part of a log, in bytes. A log has two parts. */
const maxSize = 8 << 20;
/** Maximum length of a line, in characters. */
const maxLine = 4000;

/** Endings of a computer's log files: messages, console output, and trace steps (`--trace`). */
export const logEnd = '.log';
export const consoleEnd = '.console';
export const traceEnd = '.trace';
/** Endings of all files of logs. */
const logEnds = [logEnd, consoleEnd, traceEnd].flatMap((end) => [end, end + olderPart]);

/** Removes the logs in a folder, and no other file. Returns their size in bytes. */
export function removeLogs(folder: string): number {
  let bytes = 0;
  for (const path of logFiles(folder)) {
    bytes += lstatSync(path).size;
    rmSync(path, { force: true });
  }
  return bytes;
}

/** The bytes of all logs of a computer or process in `folder`, and the last write to one. */
export function sizeOfLogs(folder: string, name: string): { readonly size: number; readonly lastMs: number } {
  const stats = logFiles(folder)
    .filter((path) => logEnds.some((end) => path === join(folder, name + end)))
    .flatMap((path) => statSync(path, { throwIfNoEntry: false }) ?? []);
  const size = stats.reduce((sum, one) => sum + one.size, 0);
  return { size, lastMs: Math.max(0, ...stats.map(({ mtimeMs }) => mtimeMs)) };
}

/** The time of the last write to a log in `folder`, in ms since 1970; 0 if there is none. */
export function lastLog(folder: string): number {
  return Math.max(0, ...logFiles(folder).map((path) => lstatSync(path).mtimeMs));
}

function logFiles(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => logEnds.some((end) => name.endsWith(end)));
  return names.map((name) => join(folder, name));
}

export class SiteLogs {
  readonly folder: string;
  readonly #files = new Map<string, RotatingFile>();

  /** Removes the logs of an earlier run from `folder`. */
  constructor(folder: string) {
    this.folder = folder;
    removeLogs(folder);
  }

  /**
   * Appends a line with a time stamp to `NAME.log`.
   * @throws FarbusError if the file cannot be created
   */
  line(name: string, text: string): void {
    const line = text.replace(/[\r\n]+/g, ' ').slice(0, maxLine);
    this.#file(name + logEnd).append(Buffer.from(`${new Date().toISOString()} ${line}\n`));
  }

  /**
   * Appends console output to `NAME.console`.
   * @throws FarbusError if the file cannot be created
   */
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
