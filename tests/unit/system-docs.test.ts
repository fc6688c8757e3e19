/**
 * docs/system.md names the test for each requirement and each figure of [SYS]. Those tests exist
 * and cite the figure.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(`${root}docs/system.md`, 'utf8');

interface Row {
  /** The heading: "R3, R4", or "6: client protection interrupt 300". */
  readonly what: string;
  readonly code: string;
  /** Each test: a file, and optionally the beginning of a test title in it. */
  readonly tests: readonly { readonly file: string; readonly title: string | undefined }[];
}

const rows = page
  .split(/^#+ /m)
  .map((section) => section.replace(/^Figure /, ''))
  .filter((section) => /^R?\d/.test(section))
  .map((section): Row => {
    const [what, ...items] = section.split(/^- |\n\n/m).map((item) => item.replace(/\s+/g, ' ').trim());
    const named = (name: string): string[] =>
      items.filter((item) => item.startsWith(`${name}: `)).map((item) => item.slice(name.length + 2));
    return { what: what!, code: named('code').join(), tests: named('test').map(testOf) };
  });

function testOf(text: string): Row['tests'][number] {
  const match = /^`(tests\/[^`]+\.test\.ts)`(?:: "([^"]+?)(?: …)?")?$/.exec(text);
  if (!match) throw new Error(`docs/system.md: expected \`tests/….test.ts\`: "title …", found ${text}`);
  return { file: match[1]!, title: match[2] };
}

/**
 * The titles of tests and groups in a file: the string literals that are a call's first argument.
 */
function titlesOf(text: string): string[] {
  return [...text.matchAll(/\(\s*(['"`])((?:\\.|(?!\1).)*)\1,/g)].map(([, , title]) => title!);
}

/** The numbers in "9, 10 and 12", "1 to 12", "1–3". */
function numbersOf(text: string): number[] {
  return text.split(/,|and/).flatMap((part) => {
    const [from, to] = part.split(/to|–|-/).map((number) => parseInt(number, 10));
    return Array.from({ length: (to || from!) - from! + 1 }, (_, i) => from! + i);
  });
}

/** The figures that a file cites. */
function figuresIn(text: string): Set<number> {
  const found = new Set<number>();
  for (const [, list] of text.matchAll(/\[SYS\],? fig\. (\d+(?:(?:, | and | to |–)\d+)*)/g)) {
    for (const number of numbersOf(list!)) found.add(number);
  }
  return found;
}

const read = (file: string): string => readFileSync(root + file, 'utf8');

describe('docs/system.md', () => {
  it('lists every requirement and every figure', () => {
    const known = rows.map(({ what }) => what);
    const requirements = known
      .filter((what) => what.startsWith('R'))
      .flatMap((what) => what.match(/\d+/g)!.map(Number));
    expect(requirements).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const figures = known.filter((what) => !what.startsWith('R')).flatMap((what) => numbersOf(figureList(what)));
    expect(figures).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  });

  it.each(rows)('$what: its tests exist', ({ tests }) => {
    for (const { file, title } of tests) {
      expect(existsSync(root + file), file).toBe(true);
      if (title === undefined) continue;
      const titles = titlesOf(read(file));
      expect(
        titles.some((one) => one.startsWith(title)),
        `${file}: a test that is called ${title}`,
      ).toBe(true);
    }
  });

  it.each(rows.filter(({ what }) => !what.startsWith('R')))('figure $what: a test cites it', ({ what, tests }) => {
    const cited = new Set(tests.flatMap(({ file }) => [...figuresIn(read(file))]));
    expect(numbersOf(figureList(what)).filter((figure) => !cited.has(figure))).toEqual([]);
  });

  it.each(rows)('$what: its code exists', ({ code }) => {
    for (const [, path] of code.matchAll(/`(src\/[^`]+)`/g)) expect(existsSync(root + path!), path).toBe(true);
  });
});

/** "1–3" of "1–3: the parts". */
function figureList(what: string): string {
  return /^[\d, –]+/.exec(what)![0].trim();
}
