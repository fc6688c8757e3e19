/**
 * Runs a command for the user: without a shell, on the user's terminal, with the signals of this
 * process passed on.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { errnoOf, messageOf } from '../../base/errors.js';
import { exitStatus } from '../exit-status.js';
import type { CliIo } from './io.js';
import { takeSignals } from './signals.js';

/**
 * Signals to pass on. SIGINT and SIGQUIT from a terminal reach the command directly, because it is
 * in the same process group.
 */
const forwarded = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
const fromTerminal: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];

/**
 * Runs `command` until it ends.
 * @returns Its exit status, by a shell's rules: 128 + n if signal n ended it, 127 if the program
 * does not exist, 126 if it cannot be run.
 */
export async function runCommand(command: readonly string[], io: CliIo): Promise<number> {
  const [program, ...args] = command;
  // Install the handlers before the start: a signal that arrives right after it must reach the
  // command and not end this process.
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
        // A failure to pass on a signal is also reported here; then the command keeps running.
        if (child.pid !== undefined) return;
        io.stderr.write(`farbus: cannot run ${JSON.stringify(program)}: ${why}\n`);
        resolve(missing ? exitStatus.notFound : exitStatus.notRunnable);
      });
      child.once('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
    });
  } finally {
    give();
    for (const off of handlers) off();
  }
}
