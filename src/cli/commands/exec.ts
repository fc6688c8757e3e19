/** `farbus exec`: runs a command in the guest of a running computer. */
import { JoinedAbort } from '../../base/abort.js';
import { FarbusError, usageError } from '../../base/errors.js';
import { Deadline } from '../../base/deadline.js';
import { runOnConsole } from '../../app/computer/console-command.js';
import { describe } from '../../app/control/description.js';
import { findConsole, type Named } from '../../app/control/find.js';
import { defineCommand } from '../command.js';
import { exitStatus } from '../exit-status.js';
import { numberOption } from '../options.js';
import type { Given, Options } from '../table.js';
import type { CliIo } from '../ui/io.js';
import { onSignals } from '../ui/signals.js';
import { checkCommand } from './guest-command.js';

const options = {
  timeout: { value: 'SECONDS', about: 'end COMMAND by Ctrl-C after this time; by default there is no limit' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'exec',
  summary: 'run a command in the guest of a running computer',
  usage: ['[OPTIONS] [SITE/]COMPUTER COMMAND...'],
  about: `
    Runs COMMAND in the shell that waits on the computer's console, prints its output, stdout and stderr together, and
    ends with its exit status. The words of COMMAND are joined by spaces, as ssh joins them. COMMAND has a shell of its
    own: its folder and variables end with it. It reads this program's input, unless that is a terminal. In a script or a
    loop add </dev/null, or COMMAND takes the script's input. Ctrl-C is Ctrl-C for COMMAND.`,
  options,
  notes: `
    The console must be free: the command is refused while farbus console or another farbus exec uses it, in a computer
    whose console is the terminal of farbus run (start it with --detach), and if no shell waits there at a prompt that ends
    with # or $: log in by farbus console first. It must be a POSIX
    shell, such as sh, bash or zsh; fish and csh are none. farbus console and farbus logs --console show the lines that
    are typed there, and marks between them.`,
  statuses: [
    ['N', 'COMMAND ended with exit status N'],
    [String(exitStatus.late), 'the time limit of --timeout passed'],
  ],
  examples: [
    'farbus exec desk uname -a',
    "farbus exec desk 'mount /dev/nvme0n1p1 /mnt && ls /mnt'",
    'farbus exec --timeout 10 demo/desk ping -c 3 10.0.0.1',
    'farbus exec desk tar x -C /tmp <files.tar',
  ],
  pages: ['run', 'processes'],
  operands: [],
  runs: 'after-operand',
  run,
});

async function run({ values, operands, command }: Given<typeof options>, io: CliIo): Promise<number> {
  const [name] = operands;
  if (name === undefined) throw usageError('exec where? Name a computer, which farbus ps lists: farbus exec desk ls /');
  if (!command) throw usageError(`exec what in ${name}? Give a COMMAND: farbus exec ${name} ls /`);
  const misplaced = command[0]!.replace(/=.*$/s, '');
  if (misplaced === '--timeout') throw usageError('--timeout belongs before the name of the computer');
  const text = command.join(' ');
  checkCommand(text);
  const seconds = values.timeout === undefined ? undefined : numberOption('timeout', values.timeout, 1, 1_000_000);
  const signals = onSignals();
  const deadline = seconds === undefined ? undefined : new Deadline(seconds * 1000, signals.signal);
  let joined: JoinedAbort | undefined;
  try {
    const found = await signals.during(findConsole(name, io.env));
    await signals.during(checkRuns(name, found));
    const end = (joined = new JoinedAbort(deadline?.signal ?? signals.signal));
    // If the reader of the output is gone, end the command.
    void io.stdoutFailed?.then(() => end.abort(new OutputGone()));
    const input = io.stdin.isTTY === true ? undefined : io.stdin;
    return await runOnConsole(found, {
      name,
      command: text,
      input,
      onOutput: (bytes) => io.stdout.write(bytes),
      signal: end.signal,
    });
  } catch (error) {
    if (error instanceof OutputGone) return exitStatus.done;
    if (!deadline?.passed) throw error;
    const late = `the command did not end within ${seconds!} s (--timeout)`;
    const more = error instanceof FarbusError ? `; ${error.message}` : ' and was ended by Ctrl-C';
    throw new FarbusError(late + more, { exitCode: exitStatus.late });
  } finally {
    joined?.end();
    deadline?.end();
    signals.stop();
    // Unread input must not keep this program running.
    if (io.stdin.isTTY !== true) io.stdin.destroy();
  }
}

/** Rejects with a FarbusError if the computer still boots, or has ended. */
async function checkRuns(name: string, { process, computer }: Named): Promise<void> {
  const { state, computers } = await describe(process);
  const now = computer === undefined ? state : (computers?.find((one) => one.name === computer)?.state ?? 'ended');
  if (now !== 'running') throw new FarbusError(`${name} does not run, its state is ${now}: see farbus ps`);
}

class OutputGone extends Error {
  override readonly name = 'OutputGone';
}
