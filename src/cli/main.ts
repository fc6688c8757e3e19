/** The `farbus` command: finds the subcommand, and turns errors into a line and an exit status. */
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { FarbusError, messageOf } from '../base/errors.js';
import { BlockError } from '../block/errors.js';
import { loadCommand, loadCommands } from './commands/registry.js';
import { exitStatus } from './exit-status.js';
import { finish, processIo, type CliIo } from './ui/io.js';
import { endOnSignals, Interrupted } from './ui/signals.js';

export { endProcess } from '../linux/end-process.node.js';

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
    switch (name) {
      case undefined:
      case '--help':
      case '-h':
        return await help(undefined, io, name === undefined ? exitStatus.usage : exitStatus.done);
      case 'help':
        return await help(rest[0], io);
      case '--version':
      case '-V':
        io.stdout.write(`farbus ${version()}\n`);
        return exitStatus.done;
      case 'completion':
        return await completion(rest[0], io);
    }
    const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
    if (own.includes('--help') || own.includes('-h')) return await help(name, io);
    const found = await loadCommand(name);
    return found ? await found.run(rest, io) : unknown(name, io);
  } catch (error) {
    if (error instanceof Interrupted) return error.status;
    // A disk that fails, is full or is gone is no internal error either.
    if (error instanceof FarbusError || error instanceof BlockError) {
      io.stderr.write(`farbus: ${messageOf(error)}\n`);
      return error instanceof FarbusError ? error.exitCode : exitStatus.failed;
    }
    io.stderr.write(`farbus: internal error: ${messageOf(error)}; please report it (FARBUS_DEBUG=1 prints more)\n`);
    if (io.env['FARBUS_DEBUG'] && error instanceof Error) io.stderr.write(`${error.stack ?? ''}\n`);
    return exitStatus.failed;
  }
}

/** Prints the help of a command or a page of help; without a topic, that of farbus itself. */
async function help(topic: string | undefined, io: CliIo, status: number = exitStatus.done): Promise<number> {
  const { commandHelp, mainHelp, topicHelp } = await import('./help.js');
  let text: string | undefined;
  if (topic === undefined) text = mainHelp(await loadCommands());
  else {
    const found = await loadCommand(topic);
    text = found ? commandHelp(found) : topicHelp(topic);
  }
  if (text === undefined) return unknown(topic!, io);
  io.stdout.write(text);
  return status;
}

/** Prints a completion script for a shell. */
async function completion(shell: string | undefined, io: CliIo): Promise<number> {
  const { completionScript } = await import('./completion.js');
  io.stdout.write(completionScript(shell, await loadCommands()));
  return exitStatus.done;
}

function unknown(name: string, io: CliIo): number {
  io.stderr.write(`farbus: there is no command ${JSON.stringify(name)}; see farbus --help\n`);
  return exitStatus.usage;
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
