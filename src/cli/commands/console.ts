/** `farbus console`: connects the terminal to the console of a computer. */
import { usageError } from '../../base/errors.js';
import { isOver } from '../../site/computer.js';
import { openControl } from '../../app/control/client.js';
import type { CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { onSignals } from '../ui/signals.js';
import { findConsole } from '../../app/control/find.js';
import { siteStatus, statusLine } from '../../app/site/site.js';
import { attachTerminal } from '../ui/terminal.js';

const options = {
  site: { value: 'SITE', about: 'the site, if several have a computer of that name; or give SITE/COMPUTER' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'console',
  summary: 'use the console of a running computer',
  usage: ['[SITE/]COMPUTER [--site SITE]'],
  about: `
    Every key goes to the computer, Ctrl-C too; Ctrl-] leaves, and the computer continues. The console's last output is
    shown first. The command ends with the computer, and says why it ended. In a pipe, stdin goes to the computer, up to a
    Ctrl-]. When stdin has ended, the command leaves as soon as the computer has printed nothing for 2 seconds; farbus logs --console
    --follow goes on.`,
  options,
  examples: ['farbus console desk', 'farbus console demo/desk'],
  pages: ['site', 'run'],
  operands: [],
  run,
});

/** Time without output after which a pipe whose input has ended is left, in ms. */
const quietMs = 2000;

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name, ...more] = operands;
  if (name === undefined || more.length > 0) throw usageError('farbus console COMPUTER: name one computer');
  const full = values.site === undefined ? name : `${values.site}/${name}`;
  const { process: of, computer } = await findConsole(full, io.env);
  const { path } = of;
  const signals = onSignals();
  const { signal } = signals;
  const opened = await openControl(path, { command: 'console', computer }, { signal }).catch((error: unknown) => {
    signals.stop();
    throw error;
  });
  const { socket, rest } = opened;
  const ended = new Promise<'ended'>((resolve) => socket.once('close', () => resolve('ended')));
  // Before the first output: who sees it may press Ctrl-C, which is the guest's.
  const terminal = attachTerminal(io, (bytes) => socket.write(bytes), { leavesInPipe: true });
  if (io.stdin.isTTY) io.stderr.write(`farbus: the console of ${name}; Ctrl-] leaves\n`);
  if (rest.length > 0) io.stdout.write(rest);
  let timer: NodeJS.Timeout | undefined;
  const quiet = new Promise<void>((resolve) => {
    if (!io.stdin.isTTY) void terminal.inputEnded.then(() => (timer = setTimeout(resolve, quietMs)));
  });
  socket.on('data', (bytes: Buffer) => {
    io.stdout.write(bytes);
    timer?.refresh();
  });
  socket.resume();
  try {
    const over = Promise.race([ended, signals.received]);
    const unread = io.stdoutFailed ?? new Promise<never>(() => undefined);
    const left = Promise.race([terminal.left, quiet, unread]);
    let how = await Promise.race([over, left.then(() => 'left' as const)]);
    if (how === 'left' && io.stdin.isTTY) io.stderr.write('\n');
    else if (how === 'left') {
      // The socket closes when the computer has all that came before Ctrl-].
      socket.end();
      clearTimeout(timer);
      const late = new Promise<'left'>((resolve) => (timer = setTimeout(() => resolve('left'), quietMs)));
      how = await Promise.race([ended.then(() => 'left' as const), signals.received, late]);
    }
    if (how === 'ended') io.stderr.write(`farbus: ${await whyEnded(path, name, computer)}\n`);
    return typeof how === 'number' ? how : 0;
  } finally {
    clearTimeout(timer);
    terminal.stop();
    signals.stop();
    socket.destroy();
  }
}

async function whyEnded(path: string, given: string, computer: string | undefined): Promise<string> {
  if (computer === undefined) return `${given} has ended`;
  try {
    const { computers } = await siteStatus(path);
    const status = computers.find(({ name }) => name === computer);
    if (status && isOver(status.state)) return statusLine(status);
  } catch {
    // The site has ended together with the computer.
  }
  return `the site of ${computer} has ended`;
}
