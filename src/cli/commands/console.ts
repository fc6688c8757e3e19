/** `farbus console`: connects the terminal to the console of a computer of a site. */
import { usageError } from '../../base/errors.js';
import { isOver } from '../../site/computer.js';
import { control } from '../../app/site/control.js';
import type { CliIo } from '../ui/io.js';
import { parseOptions } from '../options.js';
import { onSignals } from '../ui/signals.js';
import { findSite, statusLine } from '../../app/site/site.js';
import { attachTerminal } from '../ui/terminal.js';

export const help = `farbus console: the console of a computer of a site

Usage: farbus console COMPUTER [--site SITE]

Every key goes to the computer, Ctrl-C too; Ctrl-] leaves, and the computer goes on. What it has printed last is shown first.
The command ends when the computer does, and says why. In a pipe, stdin goes to the computer.

Options:
  --site SITE   which site, where several run

Examples:
  farbus console desk
`;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('console', args, {
    allowPositionals: true,
    options: { site: { type: 'string' } },
  });
  const [computer, ...more] = positionals;
  if (computer === undefined || more.length > 0) throw usageError('farbus console COMPUTER: name one computer');
  const { path } = await findSite(io.env, values.site);
  const { socket, rest } = await control(path, { op: 'console', computer });
  const signals = onSignals();
  if (io.stdin.isTTY) io.stderr.write(`farbus: the console of ${computer}; Ctrl-] leaves\n`);
  const ended = new Promise<'ended'>((resolve) => socket.once('close', () => resolve('ended')));
  if (rest.length > 0) io.stdout.write(rest);
  socket.on('data', (bytes: Buffer) => io.stdout.write(bytes));
  socket.resume();
  const terminal = attachTerminal(io, (bytes) => socket.write(bytes));
  try {
    const left = Promise.race([terminal.left, ...(io.stdoutFailed ? [io.stdoutFailed] : [])]);
    const how = await Promise.race([ended, left.then(() => 'left' as const), signals.received]);
    if (how === 'left') io.stderr.write('\n');
    if (how === 'ended') io.stderr.write(`farbus: ${await whyEnded(path, computer)}\n`);
    return typeof how === 'number' ? how : 0;
  } finally {
    terminal.stop();
    signals.stop();
    socket.destroy();
  }
}

async function whyEnded(path: string, computer: string): Promise<string> {
  try {
    const { reply, socket } = await control(path, { op: 'status' });
    socket.destroy();
    const status = reply.computers?.find(({ name }) => name === computer);
    if (status && isOver(status.state)) return statusLine(status);
  } catch {
    // The site has ended together with the computer.
  }
  return `the site of ${computer} has ended`;
}
