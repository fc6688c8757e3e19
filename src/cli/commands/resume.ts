/** `farbus resume`: lets the guests of paused computers go on. */
import { usageError } from '../../base/errors.js';
import { askComputer } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'resume',
  summary: 'let the guest of a paused computer go on',
  usage: ['NAME...'],
  about: `
    NAME is a computer that farbus pause or the console page has paused. A guest that was not paused goes on as before.`,
  options,
  examples: ['farbus resume desk'],
  pages: ['run', 'processes'],
  operands: [],
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo): Promise<number> {
  if (operands.length === 0) throw usageError('farbus resume NAME...: give a computer that farbus ps shows');
  for (const name of operands) {
    await askComputer(name, { command: 'resume' }, { env: io.env, onWorking: tellWaiting(io) });
    io.stdout.write(`${name} goes on\n`);
  }
  return 0;
}
