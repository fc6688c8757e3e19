/**
 * Makes docs/commands.md, the reference of all commands, from their tables. `npm run docs` writes
 * the file, and a test compares it.
 */
import type { Command } from './table.js';
import { commandHelp, mainHelp, topicHelp } from './help.js';
import { topics } from './topics.js';

/** The page, in Markdown. */
export function referencePage(commands: readonly Command[]): string {
  const texts = [
    ['farbus', mainHelp(commands)],
    ...commands.map((command) => [`farbus ${command.name}`, commandHelp(command)]),
    ...Object.keys(topics).map((name) => [`farbus help ${name}`, topicHelp(name)!]),
  ] as const;
  const head = '# Commands\n\n`npm run docs` makes this page from the tables of the commands (`src/cli/commands`).\n';
  return head + texts.map(([title, help]) => `\n## ${title}\n\n\`\`\`text\n${help}\`\`\`\n`).join('');
}
