/** The command lines that README, the docs and the help give as examples. */
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadCommands } from '../../src/cli/commands/registry.js';
import { topics } from '../../src/cli/topics.js';

export interface Example {
  /** Where it stands. */
  readonly page: string;
  /** One line for a shell, without the comment behind it. */
  readonly line: string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The help of the commands is compared with this page, so that its examples need not be read. */
const made = 'commands.md';

export async function allExamples(): Promise<Example[]> {
  const docs = readdirSync(`${root}docs`).filter((name) => name.endsWith('.md') && name !== made);
  const pages = ['README.md', ...docs.map((name) => `docs/${name}`)];
  const found = pages.flatMap((page) =>
    linesOf(readFileSync(root + page, 'utf8')).map((line): Example => ({ page, line })),
  );
  for (const { name, examples } of await loadCommands()) {
    found.push(...examples.map((line): Example => ({ page: `farbus ${name} --help`, line })));
  }
  for (const [name, { parts }] of Object.entries(topics)) {
    for (const part of parts()) {
      if (typeof part === 'string' || !('examples' in part)) continue;
      found.push(...part.examples.map((line): Example => ({ page: `farbus help ${name}`, line })));
    }
  }
  return found;
}

/**
 * The command lines of a page: all lines of its blocks of shell commands, and of blocks without a
 * language those that begin with farbus.
 */
function linesOf(text: string): string[] {
  return [...text.matchAll(/^```(sh|)\n([^]*?)^```/gm)].flatMap(([, language, block]) =>
    block!
      .replaceAll(/\\\n\s*/g, '')
      .split('\n')
      .map((line) => line.replace(/^#.*|\s+#.*$|\s{3,}.*$/, '').replaceAll('npx farbus', 'farbus'))
      .filter((line) => (language === 'sh' ? line !== '' : line.startsWith('farbus '))),
  );
}

/** The words of each command of farbus in a line. Words in $(...) and redirections are left out. */
export function farbusCommands(line: string): string[][] {
  const words = line.match(/(?:'[^']*'|"[^"]*"|\$\([^)]*\)|[^\s'"])+/g) ?? [];
  const commands: string[][] = [];
  let current: string[] | undefined;
  for (const word of words) {
    if (/^(&&|\|\|?|;|>)$/.test(word)) current = undefined;
    else if (/^(<\()?farbus$/.test(word)) commands.push((current = []));
    else if (!word.startsWith('$(')) current?.push(word.replaceAll(/['"]/g, '').replace(/[;)]$/, ''));
  }
  return commands;
}
