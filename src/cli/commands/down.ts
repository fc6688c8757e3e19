/** `farbus down`: ends a running site. */
import { usageError } from '../../base/errors.js';
import { askControl } from '../../app/control/client.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { findSite } from '../../app/site/site.js';

const options = {} as const satisfies Options;

export const command = defineCommand({
  name: 'down',
  summary: 'end a site',
  usage: ['[SITE]'],
  about: `
    Ends the computers of a site that farbus up has started, clients before servers, and waits for them. SITE is needed if
    several sites run.`,
  options,
  examples: ['farbus down', 'farbus down demo'],
  pages: ['site'],
  operands: [],
  run,
});

async function run({ operands }: Given<typeof options>, io: CliIo): Promise<number> {
  if (operands.length > 1) throw usageError('farbus down [SITE]: one site at a time');
  const { name, path } = await findSite(io.env, operands[0]);
  await askControl(path, { command: 'down' }, { onWorking: tellWaiting(io) });
  io.stdout.write(`${name} has ended\n`);
  return 0;
}
