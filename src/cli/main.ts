/**
 * The `farbus` command: finds the subcommand, and turns errors into one line and an exit status.
 */
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { FarbusError, messageOf } from '../base/errors.js';
import { BlockError } from '../block/errors.js';
import { finish, processIo, type CliIo } from './ui/io.js';
import { endOnSignals, Interrupted } from './ui/signals.js';

export { endProcess } from '../base/end-process.node.js';

interface Subcommand {
  readonly summary: string;
  /** Loads the module when needed: `farbus serve` must not load the guest's engine. */
  readonly load: () => Promise<{ run(args: readonly string[], io: CliIo): Promise<number>; help: string }>;
}

/** All commands of farbus. */
const subcommands = new Map<string, Subcommand>(
  Object.entries({
    run: {
      summary: 'start a computer whose disks are elsewhere',
      load: async () => import('./commands/run.js'),
    },
    serve: {
      summary: 'offer files and block devices to other computers',
      load: async () => {
        const { serve, serveHelp } = await import('./commands/serve.js');
        return { run: serve, help: serveHelp };
      },
    },
    status: {
      summary: 'how the servers and sites of this computer are',
      load: async () => import('./commands/status.js'),
    },
    attach: {
      summary: 'give any disk to a hypervisor or a tool of yours',
      load: async () => import('./commands/attach.js'),
    },
    copy: {
      summary: 'copy one disk to another',
      load: async () => import('./commands/copy.js'),
    },
    info: {
      summary: 'tell what a disk is and what is on it',
      load: async () => import('./commands/info.js'),
    },
    up: {
      summary: 'start a site: computers and the segments between them',
      load: async () => import('./commands/up.js'),
    },
    down: {
      summary: 'end a site',
      load: async () => import('./commands/down.js'),
    },
    console: {
      summary: 'the console of a computer of a site',
      load: async () => import('./commands/console.js'),
    },
    screenshot: {
      summary: 'what a running computer shows, as a picture',
      load: async () => import('./commands/screenshot.js'),
    },
    type: {
      summary: 'type on the keyboard of a running computer',
      load: async () => import('./commands/type.js'),
    },
    media: {
      summary: 'change the medium of a removable drive',
      load: async () => import('./commands/media.js'),
    },
    logs: {
      summary: 'what the computers of a site have said',
      load: async () => import('./commands/logs.js'),
    },
    lease: {
      summary: 'who writes on a device that a server shares with its system',
      load: async () => import('./commands/lease.js'),
    },
    'guest-disk': {
      summary: 'make a disk with a Debian that boots by itself',
      load: async () => import('./commands/guest-disk.js'),
    },
    demo: {
      summary: 'see it work: a server, a client computer, one far disk',
      load: async () => import('./commands/demo.js'),
    },
  }),
);

const help = `farbus: a device that is plugged into another computer, as if it were your own

Usage: farbus COMMAND [OPTIONS]

Commands:
${[...subcommands].map(([name, { summary }]) => `  ${name.padEnd(11)} ${summary}`).join('\n')}

farbus COMMAND --help tells about one of them; farbus --version, which farbus this is.
Exit status: 0, or 1 where something failed, 2 for a wrong use, 130 after Ctrl-C, 129 where the terminal was closed, and
141 where nobody read the output to its end; a COMMAND may have others.

Examples:
  farbus demo
  farbus serve disk.img
  farbus run --drive nbd://localhost/disk.img
`;

/** Runs the command line. Resolves with the exit status when all output is written. */
export async function main(args: readonly string[], io: CliIo = processIo()): Promise<number> {
  return finish(io, await command(args, io));
}

let listening = false;

async function command(args: readonly string[], io: CliIo): Promise<number> {
  // One AbortSignal serves many requests by design. Turn off Node's warning of a listener leak,
  // which appears from the eleventh listener on.
  setMaxListeners(0);
  if (!listening) endOnSignals();
  listening = true;
  const [name, ...rest] = args;
  try {
    if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
      const topic = name === 'help' ? rest[0] : undefined;
      const about = topic === undefined ? undefined : subcommands.get(topic);
      if (topic !== undefined && !about) return unknown(topic, io);
      io.stdout.write(about ? (await about.load()).help : help);
      return name === undefined ? 2 : 0;
    }
    if (name === '--version' || name === '-V') {
      io.stdout.write(`farbus ${version()}\n`);
      return 0;
    }
    const subcommand = subcommands.get(name);
    if (!subcommand) return unknown(name, io);
    const module = await subcommand.load();
    const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
    if (own.includes('--help') || own.includes('-h')) {
      io.stdout.write(module.help);
      return 0;
    }
    return await module.run(rest, io);
  } catch (error) {
    if (error instanceof Interrupted) return error.status;
    // A disk that fails, is full or is gone is no internal error either.
    if (error instanceof FarbusError || error instanceof BlockError) {
      io.stderr.write(`farbus: ${messageOf(error)}\n`);
      return error instanceof FarbusError ? error.exitCode : 1;
    }
    io.stderr.write(`farbus: internal error: ${messageOf(error)}; please report it (FARBUS_DEBUG=1 prints more)\n`);
    if (io.env['FARBUS_DEBUG'] && error instanceof Error) io.stderr.write(`${error.stack ?? ''}\n`);
    return 1;
  }
}

function unknown(name: string, io: CliIo): number {
  io.stderr.write(`farbus: there is no command ${JSON.stringify(name)}; see farbus --help\n`);
  return 2;
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
