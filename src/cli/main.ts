/** The `farbus` command: finds the subcommand, and turns errors into a line and an exit status. */
import { setMaxListeners } from 'node:events';
import { FarbusError, messageOf } from '../base/errors.js';
import { withoutSecrets } from '../base/web-address.js';
import { BlockError } from '../block/errors.js';
import { commandNames, loadCommand, loadCommands } from './commands/registry.js';
import { exitStatus } from './exit-status.js';
import { splitCommand } from './options.js';
import { noSuchCommand } from './no-such-command.js';
import type { Command } from './table.js';
import { finish, processIo, type CliIo } from './ui/io.js';
import { endOnSignals, Interrupted } from './ui/signals.js';
import { farbusVersion } from './version.js';

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
        io.stderr.write(await helpOf(undefined, true));
        return exitStatus.usage;
      case '--help':
      case '-h':
        io.stdout.write(await helpOf(undefined, name === '-h'));
        return exitStatus.done;
      case '--version':
      case '-V':
        io.stdout.write(`farbus ${farbusVersion()}\n`);
        return exitStatus.done;
    }
    const found = await loadCommand(name);
    if (!found) throw noSuchCommand(name, commandNames);
    const { own } = splitCommand({ runs: 'after-dashes', ...found }, rest);
    const short = own.includes('-h');
    if (!short && !own.includes('--help')) return await found.run(rest, io, { commands: loadCommands });
    io.stdout.write(await helpOf(found, short));
    return exitStatus.done;
  } catch (error) {
    if (error instanceof Interrupted) return error.status;
    // A disk that fails, is full or is gone is no internal error either.
    if (error instanceof FarbusError || error instanceof BlockError) {
      io.stderr.write(`farbus: ${withoutSecrets(messageOf(error))}\n`);
      return error instanceof FarbusError ? error.exitCode : exitStatus.failed;
    }
    io.stderr.write(
      `farbus: internal error: ${withoutSecrets(messageOf(error))}; please report it (FARBUS_DEBUG=1 prints more)\n`,
    );
    if (io.env['FARBUS_DEBUG'] && error instanceof Error) io.stderr.write(`${error.stack ?? ''}\n`);
    return exitStatus.failed;
  }
}

/** The help of a command, or of farbus itself. */
async function helpOf(found: Command | undefined, short: boolean): Promise<string> {
  const { commandHelp, mainHelp, shortHelp, shortMainHelp } = await import('./help.js');
  if (found) return short ? shortHelp(found) : commandHelp(found);
  return (short ? shortMainHelp : mainHelp)(await loadCommands());
}
