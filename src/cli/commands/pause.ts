/** `farbus pause`: stops the guests of computers for a while. */
import { usageError } from '../../base/errors.js';
import { askComputer } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'pause',
  summary: 'stop the guest of a running computer for a while',
  usage: ['NAME...'],
  about: `
    NAME is a computer of farbus run or of a site, as farbus ps shows it. Its processor stands still until farbus resume; its
    requests to the disks that are on their way are still answered. Its clock stands still too.`,
  options,
  examples: ['farbus pause desk', 'farbus pause demo/desk demo/store'],
  pages: ['run', 'processes'],
  operands: [],
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo): Promise<number> {
  if (operands.length === 0) throw usageError('farbus pause NAME...: give a computer that farbus ps shows');
  for (const name of operands) {
    await askComputer(name, { command: 'pause' }, { env: io.env, onWorking: tellWaiting(io) });
    io.stdout.write(`${name} is paused; farbus resume ${name} lets it go on\n`);
  }
  return 0;
}
