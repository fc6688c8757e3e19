/** `farbus media`: the media of a running computer's removable drives. */
import { usageError } from '../base/errors.js';
import { askComputer } from './computer-control.js';
import type { CliIo } from './io.js';
import { numberOption, parseOptions } from './options.js';

export const help = `farbus media: change the medium of a removable drive while the computer runs

Usage: farbus media NAME eject [--drive NUMBER] [--force]
       farbus media NAME insert SOURCE[,FILTER]... [--drive NUMBER]

NAME is that of farbus run --name. SOURCE is as in farbus run --drive. A drive that the guest has locked is not ejected:
the guest is asked to; with --force the medium is taken all the same, and what is under way fails.

Options:
  --drive NUMBER   which drive, counted from 0 in the order of --drive; needed where several are removable
  --force          eject what the guest has locked

Examples:
  farbus media desk eject
  farbus media desk insert nbd://server/second.iso
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('media', args, {
    allowPositionals: true,
    options: { drive: { type: 'string' }, force: { type: 'boolean', default: false } },
  });
  const [name, action, source, ...more] = positionals;
  const right = action === 'eject' ? source === undefined : action === 'insert' && source !== undefined;
  if (name === undefined || !right || more.length > 0 || (values.force && action !== 'eject')) {
    throw usageError('farbus media NAME eject, or NAME insert SOURCE; see farbus media --help');
  }
  const drive = values.drive === undefined ? {} : { drive: numberOption('drive', values.drive, 0, 31) };
  const request = { command: action!, ...drive, ...(source !== undefined && { source }), force: values.force };
  const { done } = (await askComputer(name, request, io.env)) as { done: string };
  io.stdout.write(`${done}\n`);
  return done.startsWith('asked') ? 1 : 0;
}
