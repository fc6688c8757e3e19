/**
 * The documents: docs/README.md lists every page, and the package has the files that README links.
 *
 * Not here: links that lead nowhere; the lint run finds them (scripts/lint-docs.mjs).
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const inDocs = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.md'),
);
/** The files to which a page links, relative to the root. */
function linksOf(page: string): string[] {
  const text = readFileSync(join(root, page), 'utf8');
  return [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
    .map(([, target]) => target!)
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => join(dirname(page), target));
}

it('docs/README.md lists every page of docs', () => {
  const listed = new Set(linksOf('docs/README.md'));
  const own = inDocs.filter((name) => !name.includes('/') && name !== 'README.md').map((name) => `docs/${name}`);
  expect(own.filter((page) => !listed.has(page))).toEqual([]);
});

it('the package has every file to which the README links', () => {
  const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] };
  const packed = (path: string): boolean => files.some((name) => path === name || path.startsWith(`${name}/`));
  expect(linksOf('README.md').filter((path) => !packed(path))).toEqual([]);
});
