/**
 * What a Debian package depends on: names → the packages that they need, in an order in which they can be unpacked.
 *
 * Specification: Debian Policy 7.1 (the syntax of relationships), 7.2 (Pre-Depends, Depends), 7.5 (Provides). Left out:
 * versions, as the packages of one suite fit each other; Recommends and Suggests; Conflicts and Breaks. Of alternatives
 * the first is taken that the suite has, unless one of them is taken already; what several packages provide is taken
 * from the one with the highest priority, of those from the first by name.
 */
import { FarbusError } from '../base/errors.js';
import { parseStanza } from './deb822.js';
import type { Stanza } from './deb822.js';

/** The most packages that a list may come to: a whole system has some thousand. */
const maxPackages = 4000;

/** Debian Policy 2.5, the highest first. */
const priorities = ['required', 'important', 'standard', 'optional', 'extra'];

/** The packages of one suite and architecture, by their names and by what they provide. */
export class PackageIndex {
  readonly #text: string;
  /** Where the stanza of each package begins in the text. */
  readonly #start = new Map<string, number>();
  readonly #providers = new Map<string, string[]>();

  /** @param text A Packages file: one version of each package. */
  constructor(text: string) {
    this.#text = text;
    // Only lines that begin with these words are fields: a continued line begins with a space.
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

  /** The fields of a package; undefined where there is none of this name itself. */
  find(name: string): Stanza | undefined {
    const at = this.#start.get(name);
    if (at === undefined) return undefined;
    const begin = this.#text.lastIndexOf('\n\n', at);
    const end = this.#text.indexOf('\n\n', at);
    return parseStanza(this.#text.slice(begin < 0 ? 0 : begin + 2, end < 0 ? undefined : end));
  }

  /** The packages that provide a virtual one, the one to take first. */
  providers(name: string): string[] {
    const rank = (one: string): number => {
      const at = priorities.indexOf(this.find(one)?.get('priority') ?? '');
      return at < 0 ? priorities.length : at;
    };
    const all = (this.#providers.get(name) ?? []).map((one) => ({ one, rank: rank(one) }));
    return all.sort((a, b) => a.rank - b.rank || (a.one < b.one ? -1 : 1)).map(({ one }) => one);
  }

  /** The packages that every system of this suite has: priority required, or essential (Debian Policy 2.5, 3.8). */
  required(): string[] {
    // The text is searched rather than 60000 stanzas taken apart.
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
 * The names in a relationship field, group by group, each group one of alternatives: "a (>= 1), b | c:any" gives
 * [["a"], ["b", "c"]]. What cannot be a name is left out.
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
  /** Names that are taken for installed: neither they nor what only they need is in the list, unless it is asked for. */
  readonly without?: readonly string[];
}

/**
 * The packages `names` and what they need, each once, after what it needs (where packages need each other, as libc6 and
 * libgcc-s1 do, one of them has to come first; what is in Pre-Depends comes before all else).
 * @throws FarbusError for a name that the suite has not, a dependency that it cannot meet, and too many packages.
 */
export function dependencyClosure(
  index: PackageIndex,
  names: readonly string[],
  options: ClosureOptions = {},
): Stanza[] {
  const closure = new Closure(index, new Set(options.without?.filter((name) => !names.includes(name))));
  // What is asked for is chosen before anything else, so that it meets others' alternatives.
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

  /** The package that a name asked for stands for. */
  choose(name: string): string {
    const real = this.#index.find(name) ? name : this.#index.providers(name)[0];
    if (real === undefined) throw new FarbusError(`Debian has no package ${JSON.stringify(name)} for this guest`);
    this.#chosen.add(real);
    return real;
  }

  /** What `roots` need, depth first, without recursion: a chain of dependencies may be long. */
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

  /** The one of a group that is taken; undefined where there is nothing to take. */
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
