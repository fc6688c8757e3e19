/** `farbus down`: ends a running site. */
import { usageError } from '../../base/errors.js';
import { control } from '../../app/site/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { parseOptions } from '../options.js';
import { findSite } from '../../app/site/site.js';

export const help = `farbus down: end a site

Usage: farbus down [SITE]

Ends the computers of a site that farbus up has started, clients before servers, and waits for them. SITE is needed where
several run.

Examples:
  farbus down
  farbus down demo
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { positionals } = parseOptions('down', args, { allowPositionals: true, options: {} });
  if (positionals.length > 1) throw usageError('farbus down [SITE]: one site at a time');
  const { site, path } = await findSite(io.env, positionals[0]);
  const { socket } = await control(path, { op: 'down' }, tellWaiting(io));
  socket.destroy();
  io.stdout.write(`${site} has ended\n`);
  return 0;
}
