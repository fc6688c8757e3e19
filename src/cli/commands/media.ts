/** `farbus media`: exchanges the media of removable drives of a running computer or server. */
import { FarbusError, usageError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { isComputer, requestTo } from '../../app/computer/control.js';
import { askControl } from '../../app/control/client.js';
import { findNamed, wrongKind } from '../../app/control/find.js';
import type { Registered } from '../../app/control/kinds.js';
import type { ServeStatus } from '../../app/serve/control.js';
import { tellWaiting, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { exitStatus } from '../exit-status.js';
import { numberOption } from '../options.js';
import { absoluteText } from '../../app/source-text.js';
import { serverWith } from './status.js';

const options = {
  drive: {
    value: 'NUMBER',
    brief: 'the drive, counted from 0; if several are removable',
    about: 'the drive, counted from 0 in the order of --drive; needed if several are removable',
  },
  force: { about: 'eject a medium that the guest or a client has locked' },
  server: { about: 'the drive of a server, by the name of its export' },
  socket: { value: 'PATH', about: 'the server with this control socket, if several have that export' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'media',
  summary: 'change the medium of a removable drive while it is used',
  usage: [
    'NAME eject [--drive NUMBER] [--force]',
    'NAME insert SOURCE[,FILTER]... [--drive NUMBER]',
    '--server EXPORT eject [--force]',
    '--server EXPORT insert SOURCE[,FILTER]...',
  ],
  about: `
    NAME is a computer of farbus run, SITE/COMPUTER, or a server with one removable drive (farbus ps shows both). With --server, EXPORT
    is that of any server. A server's drive is a physical one, or one that was given as NAME=SOURCE,removable, into which
    any source can be inserted. Every client is told. A drive that the guest has locked is not ejected: the guest is asked to eject it. With
    --force the medium is taken in any case, and requests in flight fail.`,
  options,
  topics: ['sources', 'filters'],
  statuses: [['1', 'also: the guest has locked the drive and was asked to eject it']],
  examples: [
    'farbus media desk eject',
    'farbus media desk insert nbd://server/second.iso',
    'farbus media --server cd insert second.iso',
  ],
  pages: ['run', 'serve', 'ahci'],
  operands: 'source',
  run,
});

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, action, source, ...more] = operands;
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
  const found = await findNamed(name, io.env);
  if (found.process.kind === 'serve') {
    if (values.drive !== undefined) throw usageError('--drive is for a computer; a server has exports');
    const { path } = found.process;
    return onServer(path, await removableExport(found.process), source, force, io);
  }
  if (!isComputer(found)) throw wrongKind(found, 'it has no removable drives');
  const drive = values.drive === undefined ? {} : { drive: numberOption('drive', values.drive, 0, 31) };
  // The process of the drive has another working directory, so send absolute paths.
  const request = { command: action!, ...drive, ...(source !== undefined && { source: absoluteText(source) }), force };
  const answer = await askControl(found.process.path, requestTo(found, request), { onWorking: tellWaiting(io) });
  const { done } = answer as { done: string };
  io.stdout.write(`${visible(done)}
`);
  return done.startsWith('asked') ? exitStatus.failed : exitStatus.done;
}

/** The only export of a server that is a removable drive. Rejects with a FarbusError. */
async function removableExport({ name, path }: Registered): Promise<string> {
  const { exports } = (await askControl(path, { command: 'status' })) as ServeStatus;
  const [one, ...more] = exports.filter(({ medium }) => medium !== undefined).map((of) => of.name);
  if (one === undefined)
    throw new FarbusError(`the server ${name} has no removable drive: serve NAME=SOURCE,removable`);
  if (more.length === 0) return one;
  throw new FarbusError(
    `${name} has several removable drives: farbus media --server ${[one, ...more].slice(0, 10).join(', or ')}`,
  );
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
  await askControl(socket, { command: 'insert', export: name, source: absoluteText(source) }, { onWorking });
  io.stdout.write(`inserted into ${name}\n`);
  return 0;
}
