/**
 * Lint of documents, examples, units and comments: lines of at most 100 columns, links to files and
 * headings of this repository that exist, paths in backticks that exist, and names of source files
 * in comments of src that exist (CONTRIBUTING.md, "Language"). Lines with a URL may be longer.
 *
 * Not here: the format of Markdown (prettier).
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const columns = 100;
const patterns = ['*.md', 'examples/*', 'packaging/*'];
const files = execFileSync('git', ['ls-files', ...patterns], { encoding: 'utf8' })
  .split('\n')
  // Made by npm run docs from docstrings, which the lint run checks in src.
  .filter((name) => existsSync(name) && !name.startsWith('docs/api/'));

/** The anchors of a page's headings, as GitHub makes them, and those that it sets itself. */
function anchorsOf(text) {
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
  return new Set([...headings, ...[...text.matchAll(/<a id="([^"]+)"/g)].map(([, id]) => id)]);
}

const faults = [];
for (const file of files) {
  const text = readFileSync(file, 'utf8');
  for (const [index, line] of text.split('\n').entries()) {
    const { length } = [...line];
    if (length > columns && !/https?:\/\//.test(line)) faults.push(`${file}:${index + 1}: ${length} columns`);
  }
  if (!file.endsWith('.md')) continue;
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [path, anchor] = target.split('#');
    const page = path === '' ? file : join(dirname(file), path);
    const found = existsSync(page) && (!anchor || anchorsOf(readFileSync(page, 'utf8')).has(anchor));
    if (!found) faults.push(`${file}: the link ${target} leads nowhere`);
  }
}
/** Pages of the past, which may name files that are gone. */
const history = ['CHANGELOG.md'];
for (const file of files.filter((name) => name.endsWith('.md') && !history.includes(name))) {
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/`((?:src|tests|bench|scripts|docs)\/[\w./-]+)`/g)) {
    if (!existsSync(path)) faults.push(`${file}: there is no ${path}`);
  }
}
/** True if `path` is relative to the folder of `file` or to a folder above it. */
function isNear(file, path) {
  for (let folder = dirname(file); folder !== '.'; folder = dirname(folder)) {
    if (existsSync(join(folder, path))) return true;
  }
  return existsSync(path);
}
const sources = execFileSync('git', ['ls-files', 'src/*.ts'], { encoding: 'utf8' }).split('\n').filter(existsSync);
for (const file of sources) {
  for (const [comment] of readFileSync(file, 'utf8').matchAll(/^\s*(?:\/?\*|\/\/).*$/gm)) {
    for (const [path] of comment.matchAll(/(?<![\w/.*-])(?:\.\.\/)*[a-z][\w/-]*(?:\.node)?\.ts\b/g)) {
      if (!isNear(file, path)) faults.push(`${file}: a comment names ${path}, which is neither beside it nor above it`);
    }
  }
}
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
