/**
 * Reads a configuration file (YAML 1.2, which includes JSON) as a tree in which every value knows
 * its line. Errors report FILE:LINE, what was found and what was expected.
 *
 * Left out: aliases; they are refused.
 */
import { readFile, stat } from 'node:fs/promises';
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type ParsedNode } from 'yaml';
import { FarbusError, messageOf } from '../../base/errors.js';
import { yamlFault } from './yaml-fault.js';
import { openError, printable } from '../../storage/opening.node.js';

/** Maximum length of a file, in characters. */
const maxLength = 1 << 20;

/** A value of the file. */
export class ConfigNode {
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #node: ParsedNode | null;
  /** Path of the value: "exports[2].rate". */
  readonly #path: string;
  readonly #offset: number;

  constructor(file: string, lines: LineCounter, node: ParsedNode | null, path = '', offset = 0) {
    this.#file = file;
    this.#lines = lines;
    this.#node = node;
    this.#path = path;
    this.#offset = node?.range[0] ?? offset;
    if (isAlias(node)) throw this.error('an alias', 'the value itself');
  }

  /** Makes an error about this value. */
  error(found: string, expected: string): FarbusError {
    const { line } = this.#lines.linePos(this.#offset);
    const where = this.#path === '' ? '' : ` ${this.#path}:`;
    return new FarbusError(`${this.#file}:${line}:${where} ${found}, expected ${expected}`, { exitCode: 2 });
  }

  /** Runs `parse` on its text and adds the value's place to an error. */
  parsed<T>(parse: (text: string) => T, expected = 'another value'): T {
    const text = this.text(expected);
    return this.check(() => parse(text));
  }

  /** Runs `work` and adds the value's place to an error. */
  check<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      const { line } = this.#lines.linePos(this.#offset);
      throw new FarbusError(`${this.#file}:${line}: ${this.#path}: ${messageOf(error)}`, { exitCode: 2, cause: error });
    }
  }

  /** A text, or a number as text. */
  text(expected = 'a text'): string {
    const value = isScalar(this.#node) ? this.#node.value : undefined;
    if (typeof value === 'string') return value;
    if (typeof value === 'number') return String(value);
    throw this.error(this.#kind(), expected);
  }

  boolean(): boolean {
    const value = isScalar(this.#node) ? this.#node.value : undefined;
    if (typeof value === 'boolean') return value;
    throw this.error(this.#kind(), 'true or false');
  }

  /** A whole number in [min, max]. */
  number(min: number, max: number): number {
    const value = isScalar(this.#node) ? this.#node.value : undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    throw this.error(this.#kind(), `a whole number from ${min} to ${max}`);
  }

  /** A whole number in [1, max]; Infinity for `none`. */
  limit(max: number): number {
    const value = isScalar(this.#node) ? this.#node.value : undefined;
    if (value === 'none') return Infinity;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value;
    throw this.error(this.#kind(), `a whole number from 1 to ${max}, or none`);
  }

  /** One of `words`. */
  choice<T extends string>(words: readonly T[]): T {
    const value = isScalar(this.#node) ? this.#node.value : undefined;
    const found = words.find((word) => word === value);
    if (found === undefined) throw this.error(this.#kind(), `one of ${words.join(', ')}`);
    return found;
  }

  list(of: string): ConfigNode[] {
    if (!isSeq(this.#node)) throw this.error(this.#kind(), `a list of ${of}`);
    return this.#node.items.map((item, index) => this.#child(item as ParsedNode, `${this.#path}[${index}]`));
  }

  /** Its values by key. Every key must be one of `known`. */
  map(known: readonly string[]): Map<string, ConfigNode> {
    if (!isMap(this.#node)) throw this.error(this.#kind(), `keys of ${known.join(', ')}`);
    const found = new Map<string, ConfigNode>();
    for (const { key, value } of this.#node.items) {
      const name = isScalar(key) ? String(key.value) : '?';
      const path = this.#path === '' ? name : `${this.#path}.${name}`;
      const child = this.#child((value ?? null) as ParsedNode | null, path, (key as ParsedNode).range[0]);
      if (!known.includes(name)) throw child.#unknown(name, known);
      found.set(name, child);
    }
    return found;
  }

  #unknown(name: string, known: readonly string[]): FarbusError {
    return this.error(`there is no key ${JSON.stringify(name)}`, `one of ${known.join(', ')}`);
  }

  #child(node: ParsedNode | null, path: string, offset = this.#offset): ConfigNode {
    return new ConfigNode(this.#file, this.#lines, node, path, offset);
  }

  #kind(): string {
    if (isMap(this.#node)) return 'keys and values';
    if (isSeq(this.#node)) return 'a list';
    const value = isScalar(this.#node) ? this.#node.value : undefined;
    return value === undefined || value === null ? 'nothing' : JSON.stringify(value).slice(0, 80);
  }
}

/** Reads a configuration file. Rejects with a FarbusError that names file and line. */
export async function readConfig(path: string): Promise<ConfigNode> {
  // A named pipe would be waited for without end. A shell's <(COMMAND) has an end.
  const isPipe = await stat(path).then(
    (found) => found.isFIFO() && !/^\/(dev\/fd|proc)\//.test(path),
    () => false,
  );
  if (isPipe) throw new FarbusError(`${printable(path)} is a named pipe: give a file`);
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw openError(path, error);
  });
  const file = printable(path);
  if (text.length > maxLength) throw new FarbusError(`${file} is longer than ${maxLength} characters: split it`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error) {
    const { line } = lines.linePos(error.pos[0]);
    throw new FarbusError(`${file}:${line}: ${yamlFault(error.code)}`, { exitCode: 2 });
  }
  return new ConfigNode(file, lines, document.contents);
}
