import { describe, expect, test } from 'vitest';
import { PackageIndex, dependencyClosure, parseRelations } from '../../src/guest/dependencies.js';

/** A Packages file. Each line is "NAME FIELD: VALUE; FIELD: VALUE". */
function index(...lines: string[]): PackageIndex {
  const stanzas = lines.map((line) => {
    const [name = '', ...rest] = line.split(' ');
    const fields = rest.join(' ').split('; ').filter(Boolean);
    return [`Package: ${name}`, ...fields, 'Description: Package: none\n Provides: nothing', ''].join('\n');
  });
  return new PackageIndex(stanzas.join('\n'));
}

function closure(from: PackageIndex, names: string[], without: string[] = []): string[] {
  return dependencyClosure(from, names, { without }).map((stanza) => stanza.get('package')!);
}

describe('relationships', () => {
  test.each<[string, string[][]]>([
    ['', []],
    ['a', [['a']]],
    ['a (>= 1:2.3-4~x), b (= 2)', [['a'], ['b']]],
    ['a | b (<< 3), c:any, d:i386 (>= 1)', [['a', 'b'], ['c'], ['d']]],
    ['a [i386] <!nocheck>,\nlibstdc++6', [['a'], ['libstdc++6']]],
    ['${misc:Depends}, ../x, , | , A b', []],
  ])('%j', (field, groups) => {
    expect(parseRelations(field)).toEqual(groups);
  });
});

describe('the packages that are needed', () => {
  test('come after their dependencies, each once', () => {
    const suite = index('a Depends: b, c', 'b Depends: d', 'c Depends: d (>= 2), b', 'd', 'e');
    expect(closure(suite, ['a'])).toEqual(['d', 'b', 'c', 'a']);
    expect(closure(suite, ['e', 'a', 'b', 'a'])).toEqual(['e', 'd', 'b', 'c', 'a']);
    expect(closure(suite, [])).toEqual([]);
  });

  test('are found although they need each other', () => {
    const suite = index('libc Depends: libgcc', 'libgcc Depends: base, libc', 'base', 'self Depends: self');
    expect(closure(suite, ['libc'])).toEqual(['base', 'libgcc', 'libc']);
    expect(closure(suite, ['self'])).toEqual(['self']);
  });

  test('begin with those of Pre-Depends, and leave Recommends out', () => {
    const suite = index('a Depends: b; Pre-Depends: c; Recommends: d', 'b', 'c', 'd');
    expect(closure(suite, ['a'])).toEqual(['c', 'b', 'a']);
  });

  test('are the first existing alternative, unless one is chosen already', () => {
    const suite = index('a Depends: none | b | c', 'b', 'c', 'v Depends: virtual | b', 'p Provides: virtual (= 1)');
    expect(closure(suite, ['a'])).toEqual(['b', 'a']);
    expect(closure(suite, ['a', 'c'])).toEqual(['c', 'a']);
    expect(closure(suite, ['v'])).toEqual(['p', 'v']);
    expect(closure(suite, ['v', 'b'])).toEqual(['b', 'v']);
  });

  test('are of the highest priority if several provide one', () => {
    const suite = index(
      'gawk Priority: optional; Provides: awk',
      'mawk Priority: required; Provides: awk',
      'abc Provides: awk, other',
      'base Pre-Depends: awk',
    );
    expect(closure(suite, ['base'])).toEqual(['mawk', 'base']);
    expect(closure(suite, ['base', 'gawk'])).toEqual(['gawk', 'base']);
    expect(closure(suite, ['awk'])).toEqual(['mawk']);
    expect(suite.providers('awk')).toEqual(['mawk', 'gawk', 'abc']);
  });

  test('leave out installed packages, unless they are asked for', () => {
    const suite = index('a Depends: adduser, b', 'adduser Depends: passwd', 'passwd', 'b Depends: v', 'x Provides: v');
    expect(closure(suite, ['a'], ['adduser', 'v'])).toEqual(['b', 'a']);
    expect(closure(suite, ['a'], ['x'])).toEqual(['passwd', 'adduser', 'b', 'a']);
    expect(closure(suite, ['a', 'adduser'], ['adduser', 'x'])).toEqual(['passwd', 'adduser', 'b', 'a']);
  });

  test('are refused by name if the suite does not have them', () => {
    const suite = index('a Depends: b', 'b Depends: c | d (>= 1)');
    expect(() => closure(suite, ['z'])).toThrow(/^Debian has no package "z" for this guest$/);
    expect(() => closure(suite, ['constructor'])).toThrow(/no package/);
    expect(() => closure(suite, ['a'])).toThrow(/^b needs c or d, which Debian does not have$/);
  });

  test('may form a long chain, up to a limit', () => {
    const chain = (length: number) =>
      index(...Array.from({ length }, (_, i) => `p${i}${i + 1 < length ? ` Depends: p${i + 1}` : ''}`));
    expect(closure(chain(3000), ['p0'])).toHaveLength(3000);
    expect(() => closure(chain(5000), ['p0'])).toThrow(/more than 4000 packages/);
  });
});

describe('an index', () => {
  test('finds the fields of a package by its full name', () => {
    const suite = index(
      'ab Version: 1',
      'a Version: 2; Priority: required',
      'c Essential: yes',
      'd Priority: optional',
    );
    expect(suite.find('a')!.get('version')).toBe('2');
    expect(suite.find('b')).toBeUndefined();
    expect([...suite.names()]).toEqual(['ab', 'a', 'c', 'd']);
    expect(suite.required()).toEqual(['a', 'c']);
    expect(suite.providers('nothing')).toEqual([]);
  });
});
