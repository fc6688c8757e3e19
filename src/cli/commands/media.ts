/** `farbus media`: exchanges the media of removable drives of a running computer or server. */
import { resolve } from 'node:path';
import { usageError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { askControl } from '../../app/control/control.js';
import { askComputer } from '../../app/computer/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { numberOption, parseOptions } from '../options.js';
import { localPath, parseDrive } from '../../app/sources.js';
import { serverWith } from './status.js';

export const help = `farbus media: change the medium of a removable drive while it is used

Usage: farbus media NAME eject [--drive NUMBER] [--force]
       farbus media NAME insert SOURCE[,FILTER]... [--drive NUMBER]
       farbus media --server EXPORT eject [--force]
       farbus media --server EXPORT insert SOURCE[,FILTER]...

NAME is a computer's, of farbus run --name; its own drive is changed. With --server it is the drive behind an export of
farbus serve: a physical one, or one that was given as NAME=SOURCE,removable, into which anything can be inserted. Every client
is told. SOURCE is as in farbus run --drive. A drive that the guest has locked is not ejected: the guest is asked to; with
--force the medium is taken all the same, and what is under way fails.

Options:
  --drive NUMBER   which drive, counted from 0 in the order of --drive; needed where several are removable
  --force          eject what the guest, or a client, has locked
  --server         the drive of a server, by the name of its export
  --socket PATH    of the server with this control socket, where several have that export

Examples:
  farbus media desk eject
  farbus media desk insert nbd://server/second.iso
  farbus media --server cd insert second.iso
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('media', args, {
    allowPositionals: true,
    options: {
      drive: { type: 'string' },
      force: { type: 'boolean', default: false },
      server: { type: 'boolean', default: false },
      socket: { type: 'string' },
    },
  });
  const [name, action, source, ...more] = positionals;
  const right = action === 'eject' ? source === undefined : action === 'insert' && source !== undefined;
  if (name === undefined || !right || more.length > 0 || (values.force && action !== 'eject')) {
    throw usageError('farbus media NAME eject, or NAME insert SOURCE; see farbus media --help');
  }
  const { force, server, socket } = values;
  if (server) {
    if (values.drive !== undefined) throw usageError('--drive is for a computer; a server has exports');
    return onServer(await serverWith(name, socket, io.env), name, source, force, io);
  }
  if (socket !== undefined) throw usageError('--socket goes with --server');
  const drive = values.drive === undefined ? {} : { drive: numberOption('drive', values.drive, 0, 31) };
  const request = { command: action!, ...drive, ...(source !== undefined && { source }), force };
  const { done } = (await askComputer(name, request, { env: io.env, onWorking: tellWaiting(io) })) as { done: string };
  io.stdout.write(`${visible(done)}
`);
  return done.startsWith('asked') ? 1 : 0;
}

async function onServer(
  socket: string,
  name: string,
  source: string | undefined,
  force: boolean,
  io: CliIo,
): Promise<number> {
  const onWorking = tellWaiting(io);
  if (source === undefined) {
    const { ejected } = (await askControl(socket, { command: 'eject', export: name, force }, { onWorking })) as {
      ejected: boolean;
    };
    io.stdout.write(ejected ? `ejected ${name}\n` : `${name} is empty\n`);
    return 0;
  }
  // The server has another working directory, so send absolute paths.
  const text = withAbsolutePaths(source);
  await askControl(socket, { command: 'insert', export: name, source: text }, { onWorking });
  io.stdout.write(`inserted into ${name}\n`);
  return 0;
}

/** Makes the local paths in a source's text absolute. */
function withAbsolutePaths(text: string): string {
  const { source } = parseDrive(text);
  const path = localPath(source);
  if (path === undefined) return text;
  const format = source.slice(0, source.length - path.length);
  const filters = text
    .slice(source.length)
    .replace(/,may-open=([^,]+)/g, (_, file: string) => `,may-open=${resolve(file)}`);
  return format + resolve(path) + filters;
}
