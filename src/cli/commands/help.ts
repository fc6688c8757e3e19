/** `farbus help`: prints the complete help of a command, or a page about a word of usage lines. */
import { usageError } from '../../base/errors.js';
import { defineCommand } from '../command.js';
import { commandHelp, mainHelp, topicHelp } from '../help.js';
import { noSuchCommand } from '../no-such-command.js';
import type { Given, Options, Program } from '../table.js';
import { helpPages } from '../topics.js';
import type { CliIo } from '../ui/io.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'help',
  summary: 'explain a command, or how sources and filters are written',
  usage: ['[COMMAND|sources|filters|segments]'],
  about: `
    Prints the complete help of COMMAND, as farbus COMMAND --help does, or a page that explains a word of usage lines.
    Without a word it prints the commands and the exit statuses. The manual pages have the same texts (man farbus).`,
  options,
  examples: ['farbus help serve', 'farbus help sources'],
  pages: ['commands'],
  operands: 'page',
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo, program: Program): Promise<number> {
  const [name, more] = operands;
  if (more !== undefined) throw usageError(`farbus help explains one thing at a time, and ${more} is a second`);
  const commands = await program.commands();
  const found = commands.find((one) => one.name === name);
  const text = name === undefined ? mainHelp(commands) : found ? commandHelp(found) : topicHelp(name);
  if (text === undefined) throw noSuchCommand(name!, helpPages(commands));
  io.stdout.write(text);
  return 0;
}
