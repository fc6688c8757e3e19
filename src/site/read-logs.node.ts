/**
 * Reads the logs of a site: the last lines of a computer's log, then new lines as they are written.
 */
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, FarbusError, messageOf } from '../base/errors.js';
import { logEnd } from './logs.node.js';
import { olderPart } from './rotating-file.node.js';

/** Bytes to read at a time. */
const pieceSize = 1 << 16;
/** Maximum length of a line, in characters; a longer line is returned in parts. */
const maxLine = 1 << 16;

/** Sites with logs in `folder`, the most recently written first. Ignores hidden folders. */
export function loggedSites(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw new FarbusError(`cannot look into ${folder}: ${messageOf(error)}`, { cause: error });
  }
  const times = new Map<string, number>();
  for (const site of names.filter((name) => !name.startsWith('.'))) {
    const files = loggedComputers(join(folder, site)).map((name) => join(folder, site, name + logEnd));
    if (files.length > 0) times.set(site, Math.max(...files.map((file) => statSync(file).mtimeMs)));
  }
  return [...times].sort(([, a], [, b]) => b - a).map(([site]) => site);
}

/** Names of the computers with a log in a site's folder. */
export function loggedComputers(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(logEnd))
      .map((name) => name.slice(0, -logEnd.length))
      .sort();
  } catch {
    // The folder does not exist.
    return [];
  }
}

/** Reads a log to its end and follows it as it grows, across rotations and restarts of the log. */
export class LogReader {
  readonly #path: string;
  #fd: number | undefined;
  #inode = 0n;
  #position = 0;
  #decoder = new TextDecoder();
  #rest = '';

  /** Path of the log. It may not exist yet. */
  constructor(path: string) {
    this.#path = path;
  }

  /** The last `count` lines; {@link read} continues after them. */
  last(count: number): string[] {
    const lines: string[] = [];
    const keep = (more: string[]): void => {
      lines.push(...more);
      if (lines.length > 2 * count) lines.splice(0, lines.length - count);
    };
    // Open the newer part before the older one: if the log is rotated in between, no lines are read
    // twice.
    const opened = this.#open();
    const older = new LogReader(this.#path + olderPart);
    if (existsSync(this.#path + olderPart) && older.#open() && !(opened && older.#inode === this.#inode)) {
      for (let more; (more = older.#some()) !== undefined;) keep(more);
      // A line or a character may continue in the newer part.
      this.#rest = older.#rest;
      this.#decoder = older.#decoder;
    }
    older.close();
    if (opened) for (let more; (more = this.#some()) !== undefined;) keep(more);
    return lines.slice(lines.length - Math.min(count, lines.length));
  }

  /** New lines since the last call. */
  read(): string[] {
    const lines: string[] = [];
    // Read the rest of a part that has been rotated away, then the new part.
    for (let parts = 0; parts < 2; parts++) {
      if (this.#fd !== undefined) {
        if (fstatSync(this.#fd).size < this.#position) this.#position = 0;
        for (let more; (more = this.#some()) !== undefined;) lines.push(...more);
        if (!this.#replaced()) break;
        this.close();
      }
      if (!this.#open()) break;
    }
    return lines;
  }

  /** The text after the last complete line. */
  get unfinished(): string {
    return this.#rest;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Opens the log. Returns false if it does not exist. */
  #open(): boolean {
    try {
      this.#fd = openSync(this.#path, 'r');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw new FarbusError(`cannot read ${this.#path}: ${messageOf(error)}`, { cause: error });
    }
    this.#inode = fstatSync(this.#fd, { bigint: true }).ino;
    this.#position = 0;
    return true;
  }

  #replaced(): boolean {
    const now = statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    return now !== undefined && now.ino !== this.#inode;
  }

  /** The complete lines of the next piece; undefined at the end. */
  #some(): string[] | undefined {
    const piece = Buffer.allocUnsafe(pieceSize);
    const length = readSync(this.#fd!, piece, 0, pieceSize, this.#position);
    if (length === 0) return undefined;
    this.#position += length;
    const lines = (this.#rest + this.#decoder.decode(piece.subarray(0, length), { stream: true })).split('\n');
    this.#rest = lines.pop()!;
    if (this.#rest.length > maxLine) {
      lines.push(this.#rest);
      this.#rest = '';
    }
    return lines;
  }
}
