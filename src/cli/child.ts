/** A command that is run for the user: without a shell, on the user's terminal, with the signals that reach us. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { errnoOf, messageOf } from '../base/errors.js';
import type { CliIo } from './io.js';
import { takeSignals } from './signals.js';

/** What is passed on. SIGINT and SIGQUIT from a terminal reach the command by themselves: it is in our process group. */
const forwarded = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
const fromTerminal: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];

/**
 * Runs `command` to its end.
 * @returns Its exit status; 128 + n where signal n ended it; 127 where there is no such program, 126 where it cannot be
 *   run, as a shell has it.
 */
export async function runCommand(command: readonly string[], io: CliIo): Promise<number> {
  const [program, ...args] = command;
  // Before the command is started: a signal that comes as soon as it runs must reach it, and not end this process.
  const handlers = forwarded.map((signal) => {
    const pass = (): void => {
      if (fromTerminal.includes(signal) && io.stdin.isTTY) return;
      child.kill(signal);
    };
    process.on(signal, pass);
    return () => process.off(signal, pass);
  });
  const give = takeSignals();
  const child = spawn(program!, args, { stdio: 'inherit', env: io.env });
  try {
    return await new Promise<number>((resolve) => {
      child.once('error', (error) => {
        const missing = errnoOf(error) === 'ENOENT';
        const why = missing ? 'there is no such program: check its name' : messageOf(error);
        // An error of passing a signal on comes here too; the command goes on then.
        if (child.pid !== undefined) return;
        io.stderr.write(`farbus: cannot run ${JSON.stringify(program)}: ${why}\n`);
        resolve(missing ? 127 : 126);
      });
      child.once('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
    });
  } finally {
    give();
    for (const off of handlers) off();
  }
}
