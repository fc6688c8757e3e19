/**
 * Dependencies of Debian packages: finds all packages that the given ones need, in an order in
 * which they can be unpacked.
 *
 * Specification: Debian Policy 7.1 (syntax of relationships), 7.2 (Pre-Depends, Depends), 7.5
 * (Provides). Of several alternatives it takes one that is already chosen, else the first that the
 * suite has. Of several providers it takes the one with the highest priority, then the first by
 * name.
 *
 * Left out: versions, because the packages of one suite fit each other; Recommends, Suggests,
 * Conflicts and Breaks.
 */
import { FarbusError } from '../base/errors.js';
import { parseStanza } from './deb822.js';
import type { Stanza } from './deb822.js';

/** Maximum number of packages in a list. A complete system has some thousand. */
const maxPackages = 4000;

/** Debian Policy 2.5: priorities, the highest first. */
const priorities = ['required', 'important', 'standard', 'optional', 'extra'];

/** Index of the packages of one suite and architecture by name and by what they provide. */
export class PackageIndex {
  readonly #text: string;
  /** Offset of each package's `Package:` line in the text. */
  readonly #start = new Map<string, number>();
  readonly #providers = new Map<string, string[]>();

  /** A Packages file, with one version of each package. */
  constructor(text: string) {
    this.#text = text;
    // Only a line that begins with these words is a field: a continuation line begins with a space.
    const field = /^(Package|Provides): *(.*)$/gm;
    let name = '';
    for (let found = field.exec(text); found !== null; found = field.exec(text)) {
      const value = found[2]!.trim();
      if (found[1] === 'Provides') {
        for (const provided of parseRelations(value).flat()) this.#addProvider(provided, name);
      } else {
        name = value;
        if (!this.#start.has(name)) this.#start.set(name, found.index);
      }
    }
  }

  #addProvider(provided: string, by: string): void {
    const all = this.#providers.get(provided);
    if (all === undefined) this.#providers.set(provided, [by]);
    else if (!all.includes(by)) all.push(by);
  }

  /** The names of all packages. */
  names(): IterableIterator<string> {
    return this.#start.keys();
  }

  /** The fields of a package; undefined if no package has this name. */
  find(name: string): Stanza | undefined {
    const at = this.#start.get(name);
    if (at === undefined) return undefined;
    const begin = this.#text.lastIndexOf('\n\n', at);
    const end = this.#text.indexOf('\n\n', at);
    return parseStanza(this.#text.slice(begin < 0 ? 0 : begin + 2, end < 0 ? undefined : end));
  }

  /** The packages that provide a virtual package, the preferred one first. */
  providers(name: string): string[] {
    const rank = (one: string): number => {
      const at = priorities.indexOf(this.find(one)?.get('priority') ?? '');
      return at < 0 ? priorities.length : at;
    };
    const all = (this.#providers.get(name) ?? []).map((one) => ({ one, rank: rank(one) }));
    return all.sort((a, b) => a.rank - b.rank || (a.one < b.one ? -1 : 1)).map(({ one }) => one);
  }

  /**
   * The packages that every system of this suite has: priority required, or essential (Debian
   * Policy 2.5, 3.8).
   */
  required(): string[] {
    // Search the text: parsing 60,000 stanzas would be slow.
    const names: string[] = [];
    for (const [name, at] of this.#start) {
      const end = this.#text.indexOf('\n\n', at);
      const stanza = this.#text.slice(at, end < 0 ? undefined : end);
      if (/^(Priority: *required|Essential: *yes) *$/m.test(stanza)) names.push(name);
    }
    return names.sort();
  }
}

/**
 * Parses a relationship field into groups of alternative names: "a (>= 1), b | c:any" becomes
 * [["a"], ["b", "c"]]. Malformed names are dropped.
 */
export function parseRelations(field: string): string[][] {
  return field
    .split(',')
    .map((group) =>
      group
        .split('|')
        .flatMap((one) => /^\s*([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:[([<].*)?$/s.exec(one)?.[1] ?? []),
    )
    .filter((group) => group.length > 0);
}

export interface ClosureOptions {
  /**
   * Names of packages regarded as installed. The list omits them and what only they need, unless
   * they are requested.
   */
  readonly without?: readonly string[];
}

/**
 * The packages `names` and all packages that they need, each once, after its own dependencies. In
 * a dependency cycle (libc6 and libgcc-s1) one package comes first; Pre-Depends are considered
 * before Depends.
 * @throws FarbusError for an unknown name, an unmet dependency, or too many packages
 */
export function dependencyClosure(
  index: PackageIndex,
  names: readonly string[],
  options: ClosureOptions = {},
): Stanza[] {
  const closure = new Closure(index, new Set(options.without?.filter((name) => !names.includes(name))));
  // Choose the requested packages first, so that they satisfy the alternatives of others.
  const chosen = names.map((name) => closure.choose(name));
  return closure.order(chosen);
}

class Closure {
  readonly #index: PackageIndex;
  readonly #without: ReadonlySet<string>;
  readonly #chosen = new Set<string>();
  readonly #stanzas = new Map<string, Stanza>();

  constructor(index: PackageIndex, without: ReadonlySet<string>) {
    this.#index = index;
    this.#without = without;
  }

  /** Chooses the package for a requested name: the package itself or a provider. */
  choose(name: string): string {
    const real = this.#index.find(name) ? name : this.#index.providers(name)[0];
    if (real === undefined) throw new FarbusError(`Debian has no package ${JSON.stringify(name)} for this guest`);
    this.#chosen.add(real);
    return real;
  }

  /**
   * All packages that `roots` need, depth first. Not recursive: a chain of dependencies may be
   * long.
   */
  order(roots: readonly string[]): Stanza[] {
    const ordered: Stanza[] = [];
    const begun = new Set<string>();
    const open = [...roots].reverse().map((name) => ({ name, ready: false }));
    while (open.length > 0) {
      const { name, ready } = open.pop()!;
      if (ready) {
        ordered.push(this.#stanza(name));
        continue;
      }
      if (begun.has(name)) continue;
      begun.add(name);
      if (begun.size > maxPackages) throw new FarbusError(`more than ${maxPackages} packages would be needed`);
      open.push({ name, ready: true });
      const needed = this.#needs(name).filter((one) => !begun.has(one));
      open.push(...needed.reverse().map((one) => ({ name: one, ready: false })));
    }
    return ordered;
  }

  #stanza(name: string): Stanza {
    let stanza = this.#stanzas.get(name);
    if (stanza === undefined) this.#stanzas.set(name, (stanza = this.#index.find(name)!));
    return stanza;
  }

  #needs(name: string): string[] {
    const stanza = this.#stanza(name);
    const groups = ['pre-depends', 'depends'].flatMap((field) => parseRelations(stanza.get(field) ?? ''));
    return groups.flatMap((group) => this.#alternative(name, group) ?? []);
  }

  /**
   * Chooses one package of a group of alternatives; undefined if a package that counts as installed
   * satisfies the group.
   */
  #alternative(name: string, group: readonly string[]): string | undefined {
    const meets = (one: string): string[] => [...(this.#index.find(one) ? [one] : []), ...this.#index.providers(one)];
    const candidates = group.flatMap(meets);
    const there = candidates.find((one) => this.#chosen.has(one));
    if (there !== undefined) return there;
    if ([...group, ...candidates].some((one) => this.#without.has(one))) return undefined;
    const first = candidates[0];
    if (first === undefined) throw new FarbusError(`${name} needs ${group.join(' or ')}, which Debian does not have`);
    this.#chosen.add(first);
    return first;
  }
}
