/**
 * Reads typed values from a YAML file (YAML 1.2, package yaml) and remembers their places: each
 * error names the file, the line and what was expected.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from 'yaml';
import { usageError, type FarbusError } from '../../base/errors.js';
import { parseBytes } from '../../base/format.js';
import { yamlFault } from './yaml-fault.js';

/** Maximum length of a file, in characters. */
const maxLength = 1 << 20;
/** Maximum depth of aliases of aliases. */
const maxAliases = 16;

interface Source {
  readonly file: string;
  readonly lines: LineCounter;
  readonly document: Document;
}

/**
 * Parses the text of a file.
 * @throws FarbusError "FILE:LINE: …"
 */
export function parseYaml(file: string, text: string): Item {
  if (text.length > maxLength) throw usageError(`${file}: it is longer than any site file`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const error = document.errors[0];
  if (error) throw usageError(`${file}:${lines.linePos(error.pos[0]).line}: ${yamlFault(error.code)}`);
  return new Item({ file, lines, document }, document.contents, '', 0);
}

/** A value of the file with its place. */
export class Item {
  readonly #source: Source;
  readonly #node: Node | null;
  readonly #path: string;
  readonly #offset: number;

  /** Offset in the text of the value, or of the place where it is missing. */
  constructor(source: Source, node: Node | null, path: string, offset: number) {
    this.#source = source;
    let target = node;
    for (let depth = 0; isAlias(target) && depth < maxAliases; depth++)
      target = target.resolve(source.document) ?? null;
    this.#node = target;
    this.#path = path;
    this.#offset = node?.range?.[0] ?? offset;
  }

  /** Makes an error about this value. */
  error(message: string): FarbusError {
    const { file, lines } = this.#source;
    const { line } = lines.linePos(this.#offset);
    return usageError(`${file}:${Math.max(1, line)}: ${this.#path === '' ? '' : `${this.#path}: `}${message}`);
  }

  /** Runs a check of this value and adds the value's place to its error. */
  check<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.error(error instanceof Error ? error.message : String(error));
    }
  }

  get isString(): boolean {
    return isScalar(this.#node) && typeof this.#node.value === 'string';
  }

  /** The values of a mapping by key. Each may be absent; an unknown key is an error. */
  fields<K extends string>(...known: readonly K[]): Partial<Record<K, Item>> {
    const found: Partial<Record<K, Item>> = {};
    for (const [key, item] of this.entries(`a mapping with ${known.join(', ')}`)) {
      if (!(known as readonly string[]).includes(key)) {
        throw item.error(`this key is not known here: expected ${known.join(', ')}`);
      }
      found[key as K] = item;
    }
    return found;
  }

  /** The keys and values of a mapping; keys must be scalars. */
  entries(expected = 'a mapping'): (readonly [string, Item])[] {
    if (!isMap(this.#node)) throw this.#expected(expected);
    return this.#node.items.map(({ key, value }) => {
      const name = isScalar(key) ? String(key.value) : undefined;
      if (name === undefined) throw this.error('expected names as keys');
      const path = this.#path === '' ? name : `${this.#path}.${name}`;
      return [
        name,
        new Item(this.#source, value as Node | null, path, (key as Node).range?.[0] ?? this.#offset),
      ] as const;
    });
  }

  items(expected: string): Item[] {
    if (!isSeq(this.#node)) throw this.#expected(expected);
    return this.#node.items.map(
      (node, index) => new Item(this.#source, node as Node | null, `${this.#path}[${index}]`, this.#offset),
    );
  }

  string(expected: string, pattern = /^.+$/s): string {
    const value = this.#scalar();
    const text = typeof value === 'number' ? this.#text() : value;
    if (typeof text !== 'string' || !pattern.test(text)) throw this.#expected(expected);
    return text;
  }

  boolean(): boolean {
    const value = this.#scalar();
    if (typeof value !== 'boolean') throw this.#expected('true or false');
    return value;
  }

  integer(min: number, max: number): number {
    const value = this.#scalar();
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      throw this.#expected(`a whole number from ${min} to ${max}`);
    }
    return value;
  }

  oneOf<T extends string>(...choices: readonly T[]): T {
    const value = this.#scalar();
    if (!(choices as readonly unknown[]).includes(value)) throw this.#expected(choices.join(' or '));
    return value as T;
  }

  /** A size such as "128M", in bytes. */
  size(min: number, max: number): number {
    const expected = `a size from ${min >> 20}M to ${max >> 20}M, for example 128M`;
    const value = parseBytes(this.string(expected));
    if (value === undefined || value < min || value > max) throw this.#expected(expected);
    return value;
  }

  #scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }

  /** A number as written in the file: 1.10 is not 1.1. */
  #text(): string {
    return isScalar(this.#node) ? (this.#node.source ?? String(this.#node.value)) : '';
  }

  #expected(what: string): FarbusError {
    return this.error(`expected ${what}, found ${this.#found()}`);
  }

  #found(): string {
    if (isMap(this.#node)) return 'a mapping';
    if (isSeq(this.#node)) return 'a list';
    const value = this.#scalar();
    return value === undefined || value === null ? 'nothing' : JSON.stringify(value).slice(0, 60);
  }
}
