/**
 * Reads configuration files (YAML 1.2, which includes JSON; package yaml) as trees in which every
 * value knows its place. Each error is one line: FILE:LINE, the value's path, what was expected and
 * what was found.
 *
 * Not here: the values of a server's file (serve/config.ts) and of a site's file (site.ts).
 */
import { readFile, stat } from 'node:fs/promises';
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from 'yaml';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import { parseBytes } from '../../base/format.js';
import { openError, printable } from '../../storage/opening.node.js';
import { yamlFault } from './yaml-fault.js';

/** Maximum length of a file, in characters. */
const maxLength = 1 << 20;
/** Maximum depth of aliases of aliases. */
const maxAliases = 16;

interface Origin {
  readonly file: string;
  readonly lines: LineCounter;
  readonly document: Document;
}

/**
 * Reads the text of a file. A named pipe is refused: it would be waited for without end. A shell's
 * <(COMMAND) has an end.
 */
export async function readConfigText(path: string): Promise<string> {
  const isPipe = await stat(path).then(
    (found) => found.isFIFO() && !/^\/(dev\/fd|proc)\//.test(path),
    () => false,
  );
  if (isPipe) throw new FarbusError(`${printable(path)} is a named pipe: give a file`);
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw openError(path, error);
  });
}

/**
 * Parses the text of a file.
 * @param file its name, for errors
 * @throws FarbusError "FILE:LINE: …"
 */
export function parseConfig(file: string, text: string): ConfigNode {
  if (text.length > maxLength) throw usageError(`${file} is longer than ${maxLength} characters: split it`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const error = document.errors[0];
  if (error) throw usageError(`${file}:${lines.linePos(error.pos[0]).line}: ${yamlFault(error.code)}`);
  return new ConfigNode({ file, lines, document }, document.contents, '', 0);
}

/** Reads and parses a file. Rejects with a FarbusError. */
export async function readConfig(path: string): Promise<ConfigNode> {
  return parseConfig(printable(path), await readConfigText(path));
}

/** A value of the file with its place. */
export class ConfigNode {
  readonly #origin: Origin;
  readonly #node: Node | null;
  readonly #path: string;
  readonly #offset: number;

  /** Offset in the text of the value, or of the place where it is missing. */
  constructor(origin: Origin, node: Node | null, path: string, offset: number) {
    this.#origin = origin;
    let target = node;
    for (let depth = 0; isAlias(target) && depth < maxAliases; depth++)
      target = target.resolve(origin.document) ?? null;
    this.#node = target;
    this.#path = path;
    this.#offset = node?.range?.[0] ?? offset;
  }

  /** Makes an error about this value. */
  error(message: string): FarbusError {
    const { file, lines } = this.#origin;
    const { line } = lines.linePos(this.#offset);
    return usageError(`${file}:${Math.max(1, line)}: ${this.#path === '' ? '' : `${this.#path}: `}${message}`);
  }

  /** Runs a check of this value and adds the value's place to its error. */
  check<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.error(messageOf(error));
    }
  }

  get isString(): boolean {
    return isScalar(this.#node) && typeof this.#node.value === 'string';
  }

  get isList(): boolean {
    return isSeq(this.#node);
  }

  /** The values of a mapping by key. Each may be absent; an unknown key is an error. */
  fields<K extends string>(...known: readonly K[]): Partial<Record<K, ConfigNode>> {
    const found: Partial<Record<K, ConfigNode>> = {};
    for (const [key, item] of this.entries(`a mapping with ${known.join(', ')}`)) {
      if (!(known as readonly string[]).includes(key)) {
        throw item.error(`this key is not known here: expected ${known.join(', ')}`);
      }
      found[key as K] = item;
    }
    return found;
  }

  /** The keys and values of a mapping; keys must be scalars. */
  entries(expected = 'a mapping'): (readonly [string, ConfigNode])[] {
    if (!isMap(this.#node)) throw this.#expected(expected);
    return this.#node.items.map(({ key, value }) => {
      const name = isScalar(key) ? String(key.value) : undefined;
      if (name === undefined) throw this.error('expected names as keys');
      const path = this.#path === '' ? name : `${this.#path}.${name}`;
      return [
        name,
        new ConfigNode(this.#origin, value as Node | null, path, (key as Node).range?.[0] ?? this.#offset),
      ] as const;
    });
  }

  list(expected: string): ConfigNode[] {
    if (!isSeq(this.#node)) throw this.#expected(expected);
    return this.#node.items.map(
      (node, index) => new ConfigNode(this.#origin, node as Node | null, `${this.#path}[${index}]`, this.#offset),
    );
  }

  /** A text, or a number as the file writes it. */
  text(expected = 'a text', pattern = /^.+$/s): string {
    const value = this.#scalar();
    const text = typeof value === 'number' ? this.#written() : value;
    if (typeof text !== 'string' || !pattern.test(text)) throw this.#expected(expected);
    return text;
  }

  boolean(): boolean {
    const value = this.#scalar();
    if (typeof value !== 'boolean') throw this.#expected('true or false');
    return value;
  }

  /** A whole number in [min, max]. */
  number(min: number, max: number): number {
    const value = this.#scalar();
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      throw this.#expected(`a whole number from ${min} to ${max}`);
    }
    return value;
  }

  choice<T extends string>(...choices: readonly T[]): T {
    const value = this.#scalar();
    if (!(choices as readonly unknown[]).includes(value)) throw this.#expected(choices.join(' or '));
    return value as T;
  }

  /** A whole number in [1, max]; Infinity for `none`. */
  limit(max: number): number {
    const value = this.#scalar();
    if (value === 'none') return Infinity;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value;
    throw this.#expected(`a whole number from 1 to ${max}, or none`);
  }

  /** Runs `parse` on its text and adds the value's place to an error. */
  parsed<T>(parse: (text: string) => T, expected?: string): T {
    const text = this.text(expected);
    return this.check(() => parse(text));
  }

  /** A size such as "128M", in bytes. */
  size(min: number, max: number): number {
    const expected = `a size from ${min / 2 ** 20}M to ${max / 2 ** 20}M, for example 128M`;
    const value = parseBytes(this.text(expected));
    if (value === undefined || value < min || value > max) throw this.#expected(expected);
    return value;
  }

  #scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }

  /** A number as written in the file: 1.10 is not 1.1. */
  #written(): string {
    return isScalar(this.#node) ? (this.#node.source ?? String(this.#node.value)) : '';
  }

  #expected(what: string): FarbusError {
    return this.error(`expected ${what}, found ${this.#found()}`);
  }

  #found(): string {
    if (isMap(this.#node)) return 'a mapping';
    if (isSeq(this.#node)) return 'a list';
    const value = this.#scalar();
    return value === undefined || value === null ? 'nothing' : JSON.stringify(value).slice(0, 80);
  }
}
